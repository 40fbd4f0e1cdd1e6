//! Data pages: which files consist of them, their header, their checksum, and a
//! check of a whole file as it streams by.

mod checksum;
mod header;
mod verify;

pub use checksum::checksum;
pub use header::{HEADER_LEN, Header, is_new, is_valid};
pub use verify::{Corrupt, Options, Verifier};

/// The size of a page, unless PostgreSQL was built otherwise.
pub const BLOCK_SIZE: u32 = 8192;

/// The pages of one file of a relation (1 GiB of 8 KiB pages).
pub const SEGMENT_BLOCKS: u32 = 131_072;

/// Whether a file is a sequence of pages that an increment can be taken of:
/// `path` is relative to the data directory, under `base` or `pg_tblspc`, and
/// names the main fork of a relation; `size` is whole pages and not zero.
///
/// Increments of other files would not be understood by every reader of the
/// format, so the answer must not be widened.
pub fn is_paged_file(path: &str, size: u64, block_size: u32) -> bool {
    relation_segment(path).is_some() && whole_pages(size, block_size)
}

/// Whether each page of the file must carry a checksum, in a cluster that has
/// them: any fork of a relation, shared catalogues included.
pub fn is_checksummed_file(path: &str, size: u64, block_size: u32) -> bool {
    fork_segment(path).is_some() && whole_pages(size, block_size)
}

fn whole_pages(size: u64, block_size: u32) -> bool {
    size > 0 && block_size > 0 && size.is_multiple_of(u64::from(block_size))
}

/// The number of a file among those of the main fork of its relation: 0 for
/// `base/5/1259`, 2 for `base/5/1259.2`; `None` for any other file.
pub fn relation_segment(path: &str) -> Option<u32> {
    let path = path.trim_start_matches('/');
    if !path.starts_with("base/") && !path.starts_with("pg_tblspc/") {
        return None;
    }
    let (relation, segment) = split(path.rsplit('/').next()?)?;
    digits(relation).then_some(segment)
}

/// As [`relation_segment`], for any fork, and for shared catalogues.
pub fn fork_segment(path: &str) -> Option<u32> {
    let path = path.trim_start_matches('/');
    let known = ["base/", "global/", "pg_tblspc/"].iter().any(|top| path.starts_with(top));
    if !known {
        return None;
    }
    let (mut relation, segment) = split(path.rsplit('/').next()?)?;
    for fork in ["_fsm", "_vm", "_init"] {
        relation = relation.strip_suffix(fork).unwrap_or(relation);
    }
    digits(relation).then_some(segment)
}

/// The name before the point, and the number after it.
fn split(name: &str) -> Option<(&str, u32)> {
    match name.split_once('.') {
        None => Some((name, 0)),
        Some((relation, number)) if digits(number) => Some((relation, number.parse().ok()?)),
        Some(_) => None,
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paged_files_are_known_by_place_name_and_size() {
        for (path, expected) in [
            ("base/5/1259", true),
            ("/base/5/1259", true),
            ("base/5/1259.12", true),
            ("pg_tblspc/16384/PG_15_202209061/5/16390", true),
            ("base/5/1259_fsm", false),
            ("base/5/1259_vm.1", false),
            ("base/5/16390_init", false),
            ("base/5/t3_16390", false),
            ("base/5/PG_VERSION", false),
            ("base/5/pg_filenode.map", false),
            ("base/5/1259.", false),
            ("base/5/1259.x", false),
            ("base/5/.1", false),
            ("global/1260", false),
            ("pg_xact/0000", false),
            ("pg_multixact/members/0000", false),
            ("my_base/5/1259", false),
        ] {
            assert_eq!(is_paged_file(path, 8192, 8192), expected, "{path}");
        }
        assert!(!is_paged_file("base/5/1259", 0, 8192));
        assert!(!is_paged_file("base/5/1259", 8193, 8192));
        assert!(is_paged_file("base/5/1259", 3 * 16384, 16384));
        assert_eq!(relation_segment("base/5/1259.12"), Some(12));
        assert_eq!(relation_segment("base/5/1259.99999999999"), None);
    }

    #[test]
    fn every_fork_is_checksummed() {
        for (path, expected) in [
            ("base/5/1259_fsm", Some(0)),
            ("base/5/1259_vm.1", Some(1)),
            ("base/5/16390_init", Some(0)),
            ("global/1260", Some(0)),
            ("global/pg_control", None),
            ("global/pg_filenode.map", None),
            ("base/5/pg_internal.init", None),
            ("pg_xact/0000", None),
        ] {
            assert_eq!(fork_segment(path), expected, "{path}");
        }
        assert!(is_checksummed_file("global/1260", 8192, 8192));
        assert!(!is_checksummed_file("global/1260", 100, 8192));
    }
}
