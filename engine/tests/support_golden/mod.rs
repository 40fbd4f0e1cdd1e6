//! Where the golden storage trees are, and how their parts are read.

#![allow(dead_code)] // each test uses its own part of this

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The trees of the repository, and those that `WALPORT_GOLDEN` names.
pub fn roots() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden");
    let more = std::env::var_os("WALPORT_GOLDEN").map(PathBuf::from);
    std::iter::once(own).chain(more).collect()
}

/// Every file below the roots whose name ends in `suffix`: at least `least`.
pub fn files(suffix: &str, least: usize) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), roots());
    while let Some(folder) = folders.pop() {
        let list = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in list {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= least, "only {} files end in {suffix:?}", found.len());
    found
}

/// The plain bytes of a part, by its extension.
pub fn open(path: &Path) -> Box<dyn Read> {
    let file = File::open(path).unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "zst" => Box::new(zstd::Decoder::new(file).unwrap()),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(file)),
        "tar" => Box::new(file),
        other => panic!("{}: no codec for {other:?} here", path.display()),
    }
}
