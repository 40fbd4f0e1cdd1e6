//! Digests of trees, in the form of the golden `.restored` files:
//! `f MODE SIZE SHA256 PATH`, `d MODE PATH`, `l PATH TARGET`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The lines of a tree. The order of a set is enough to compare.
pub fn digest(root: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    walk(root, root, &mut lines);
    lines
}

fn walk(root: &Path, folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("read_dir") {
        let path = entry.expect("read_dir").path();
        let name = path.strip_prefix(root).expect("inside").display().to_string();
        let meta = fs::symlink_metadata(&path).expect("stat");
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            let target = fs::read_link(&path).expect("readlink");
            lines.insert(format!("l {name} {}", target.display()));
        } else if meta.is_dir() {
            lines.insert(format!("d {mode:o} {name}"));
            walk(root, &path, lines);
        } else {
            lines.insert(format!("f {mode:o} {} {} {name}", meta.len(), sha256(&path)));
        }
    }
}

/// The SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> String {
    let mut file = fs::File::open(path).expect("open");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).expect("read");
        if count == 0 {
            return hex::encode(hash.finalize());
        }
        hash.update(&buffer[..count]);
    }
}

/// Fails the test unless both are the same, and shows the first differences.
#[track_caller]
pub fn assert_same(what: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>) {
    if found == wanted {
        return;
    }
    let mut shown = String::new();
    for line in found.difference(wanted).take(10) {
        writeln!(shown, "  only found:  {line}").expect("write");
    }
    for line in wanted.difference(found).take(10) {
        writeln!(shown, "  only wanted: {line}").expect("write");
    }
    panic!("{what}: {} lines found, {} wanted\n{shown}", found.len(), wanted.len());
}
