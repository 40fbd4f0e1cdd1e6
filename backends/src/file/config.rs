//! From what the user wrote to the root directory.

use std::path::PathBuf;

use walport_engine::storage::{Error, Kind, Result};

/// The directory that `target` names: a plain path, `file:///path` or
/// `file://localhost/path`. Nothing in it is decoded: a `%` is a `%`.
pub(super) fn root(target: &str) -> Result<PathBuf> {
    let path = match target.split_once("://") {
        None => target,
        Some(("file", rest)) => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(Error::new(Kind::Config, format!("{target:?} names a host, and the file store has none"))
                    .with_hint("Write three slashes before the path, as in file:///srv/backups, or a plain path."));
            }
            path
        }
        Some((scheme, _)) => {
            return Err(Error::new(
                Kind::Config,
                format!("the file store does not open the scheme {scheme:?}"),
            )
            .with_hint("Give a plain directory, or file:///path."));
        }
    };
    if path.is_empty() {
        return Err(Error::new(Kind::Config, "the path of the file store is empty")
            .with_hint("Give the directory that holds the archive, as in /srv/backups."));
    }
    std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot make {path:?} absolute"), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_understood() {
        for (target, path) in [
            ("/srv/backups", "/srv/backups"),
            ("/srv/backups/", "/srv/backups/"),
            ("file:///srv/back%20ups", "/srv/back%20ups"),
            ("file://localhost/srv", "/srv"),
        ] {
            assert_eq!(root(target).unwrap(), PathBuf::from(path), "{target}");
        }
        assert!(root("relative/path").unwrap().is_absolute());
        for target in [
            "",
            "file://",
            "file://host/srv",
            "file://localhost",
            "s3://bucket",
            "file://localhosts/x",
        ] {
            let error = root(target).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{target}");
            assert!(error.hint().is_some(), "{target}");
        }
    }
}
