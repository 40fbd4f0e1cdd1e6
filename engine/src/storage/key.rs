//! Keys: the names of objects.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// The longest key in bytes (the limit of S3, GCS and Azure).
pub const MAX_KEY_BYTES: usize = 1024;

/// The name of an object, or a prefix of names, relative to the root of a store.
///
/// A key never begins with `/`. One that ends in `/`, or is empty, is a prefix:
/// it can be listed, not read or written. [`Key::parse`] accepts what Walport
/// itself writes; [`Key::foreign`] takes any name a store shows us, so that one
/// odd object cannot fail a listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The empty prefix: everything in the store.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Checks `text`: at most 1024 bytes of UTF-8, no leading `/`, no empty, `.`
    /// or `..` segment, no control character.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let wrong = if text.len() > MAX_KEY_BYTES {
            Some("is longer than 1024 bytes")
        } else if text.starts_with('/') {
            Some("begins with a slash")
        } else if text.chars().any(char::is_control) {
            Some("holds a control character")
        } else {
            let body = text.strip_suffix('/').unwrap_or(&text);
            (!body.is_empty() && body.split('/').any(|part| matches!(part, "" | "." | "..")))
                .then_some("holds an empty, \".\" or \"..\" segment")
        };
        match wrong {
            Some(why) => Err(Error::new(Kind::Invalid, format!("key {text:?} {why}"))),
            None => Ok(Self(text)),
        }
    }

    /// A name as a store returned it, unchecked. Never used to make a local path.
    pub fn foreign(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `self` is a prefix: appends `name` to it, with one slash between.
    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() || self.0.ends_with('/') {
            Self(format!("{}{name}", self.0))
        } else {
            Self(format!("{}/{name}", self.0))
        }
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last slash; empty for a prefix that ends in a slash.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// The folder the key is in, with its final slash; the root for a bare name.
    pub fn parent(&self) -> Self {
        let body = self.0.strip_suffix('/').unwrap_or(&self.0);
        match body.rfind('/') {
            Some(at) => Self(body[..=at].to_owned()),
            None => Self::root(),
        }
    }

    /// Whether the key is a prefix: empty, or with a final slash.
    pub fn is_prefix(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// What remains of `self` after `prefix`, if it begins with it.
    pub fn strip_prefix(&self, prefix: &Key) -> Option<&str> {
        self.0.strip_prefix(prefix.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_checked() {
        for good in ["", "a", "a/b", "wal_005/", "a b/é+%41", "a:b"] {
            assert!(Key::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["/a", "a//b", "a/../b", ".", "..", "a/./b", "a\nb", "//"] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Key::parse("x".repeat(1025)).is_err());
    }

    #[test]
    fn keys_have_parts() {
        let key = Key::parse("wal_005/x.lz4").unwrap();
        assert_eq!(key.name(), "x.lz4");
        assert_eq!(key.parent().as_str(), "wal_005/");
        assert_eq!(Key::root().join("wal_005").join("x.lz4"), key);
        assert_eq!(key.strip_prefix(&key.parent()), Some("x.lz4"));
    }
}
