//! Objects that WAL-G wrote decode to the recorded digests.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// Not an object but a line of a hex dump of one: no decoder may take it.
const HEX_DUMP: &str = "wal-lzma/wal_005/000000010000000000000011.lzma";

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden")
}

#[test]
fn wal_objects_of_every_codec_decode() {
    let recorded = fs::read_to_string(golden().join("wal.sha256")).unwrap();
    let recorded: HashMap<&str, &str> = recorded
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path.rsplit('/').next().unwrap(), digest))
        .collect();
    for (folder, extension, objects) in [
        ("wal-lz4", "lz4", 4),
        ("wal-lzma", "lzma", 3),
        ("wal-brotli", "br", 4),
        ("wal-zstd", "zst", 4),
        ("wal-none", "", 2),
    ] {
        let mut seen = 0;
        for entry in fs::read_dir(golden().join(folder).join("wal_005")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.ends_with(HEX_DUMP) {
                support::assert_corrupt(
                    &*support::reader(extension),
                    &fs::read(&path).unwrap(),
                    "hex dump",
                );
                continue;
            }
            let plain = name.strip_suffix(extension).unwrap().trim_end_matches('.');
            let content =
                support::decode(&*support::reader(extension), &fs::read(&path).unwrap()).unwrap();
            let digest = hex::encode(Sha256::digest(&content));
            assert_eq!(Some(&digest.as_str()), recorded.get(plain), "{}", path.display());
            seen += 1;
        }
        assert_eq!(seen, objects, "{folder}");
    }
}
