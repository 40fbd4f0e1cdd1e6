//! Names: from keys to paths, temporary names, versions.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use walport_engine::storage::{Error, Key, Kind, Meta, Result};

use crate::temporary;
pub(super) use crate::temporary::is_temporary;

/// The path of the object `key` below `root`.
///
/// Fails with [`Kind::Invalid`] unless every segment is a plain name, so that no
/// key can lead out of the root, and unless the name is one that listings show.
pub(super) fn object(root: &Path, key: &Key) -> Result<PathBuf> {
    if key.is_prefix() {
        return Err(Error::new(Kind::Invalid, "a prefix is not an object").with_key(key));
    }
    if is_temporary(key.name().as_bytes()) {
        return Err(Error::new(
            Kind::Invalid,
            "the name is reserved for objects that are being written",
        )
        .with_key(key));
    }
    path(root, key)
}

/// The path of the folder of `prefix` below `root`.
pub(super) fn folder(root: &Path, prefix: &Key) -> Result<PathBuf> {
    if !prefix.is_prefix() {
        return Err(Error::new(Kind::Invalid, "a prefix must end in a slash").with_key(prefix));
    }
    path(root, prefix)
}

fn path(root: &Path, key: &Key) -> Result<PathBuf> {
    let text = key.as_str();
    let body = text.strip_suffix('/').unwrap_or(text);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !text.is_empty() && !body.split('/').all(plain) {
        return Err(Error::new(Kind::Invalid, "the key is no path below the root").with_key(key));
    }
    Ok(root.join(body))
}

/// A name for `path` while it is being written, in the same directory.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(temporary::name_for(&name))
}

/// What the file system knows of a file. The version changes whenever another
/// object is put in its place.
pub(super) fn meta(size: u64, seconds: i64, nanoseconds: u32, inode: u64) -> Meta {
    let modified = DateTime::from_timestamp(seconds, nanoseconds).unwrap_or(DateTime::UNIX_EPOCH);
    let version =
        format!("{}-{size}-{inode}", i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
    Meta { size, modified, version: Some(version) }
}

/// The same from what `std` knows.
pub(super) fn meta_of(found: &Metadata) -> Meta {
    meta(found.size(), found.mtime(), found.mtime_nsec() as u32, found.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_key_leads_out_of_the_root() {
        let root = Path::new("/srv");
        assert_eq!(object(root, &Key::foreign("a/b:c")).unwrap(), Path::new("/srv/a/b:c"));
        assert_eq!(folder(root, &Key::root()).unwrap(), Path::new("/srv/"));
        assert_eq!(folder(root, &Key::foreign("a/")).unwrap(), Path::new("/srv/a"));
        for bad in ["../x", "a/../../x", "/etc/passwd", "a//b", "./x", "a/..", "a\0b", "a/"] {
            assert_eq!(
                object(root, &Key::foreign(bad)).unwrap_err().kind(),
                Kind::Invalid,
                "{bad:?}"
            );
        }
        for bad in ["../", "/", "a//", "a/../", "a"] {
            assert_eq!(
                folder(root, &Key::foreign(bad)).unwrap_err().kind(),
                Kind::Invalid,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn temporary_names_are_known_again() {
        for name in ["x", "000000010000000000000001.lz4", &"y".repeat(255), &"é".repeat(127)] {
            let path = temporary(Path::new("/srv").join(name).as_path());
            let made = path.file_name().unwrap().to_str().unwrap();
            assert!(is_temporary(made.as_bytes()) && made.len() <= 255, "{made}");
            assert!(!is_temporary(name.as_bytes()));
            assert_eq!(path.parent(), Some(Path::new("/srv")));
        }
        assert!(is_temporary(b"seg.tmp.20260428T113012Z-9f2c6a4b9f2c6a4b"));
        for name in [
            "seg.tmp.20260428T113012Z-9f2c6a4b9f2c6a4",
            "seg.tmp.20260428T113012Z-9F2c6a4b9f2c6a4b",
            "seg.tmp.20260428T113012Z-9f2c6a4b9f2c6a4b.lz4",
            "seg.tmp.2026042xT113012Z-9f2c6a4b9f2c6a4b",
        ] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
