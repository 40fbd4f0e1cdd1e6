//! The names of all objects in a bucket: backups, their documents and parts, WAL.

use std::fmt;

use super::invalid;
use super::segment::{Segment, is_upper_hex};
use crate::error::{Error, Result};
use crate::storage::Key;

/// The folder of base backups.
pub const BASE_BACKUPS: &str = "basebackups_005/";
/// The folder of the WAL archive.
pub const WAL: &str = "wal_005/";
/// The folder of catch-up backups.
pub const CATCHUP: &str = "catchup_005/";
/// What follows a backup's name in the name of its sentinel.
pub const SENTINEL_SUFFIX: &str = "_backup_stop_sentinel.json";
/// The document that can be read often, and holds the flag of permanence.
pub const METADATA: &str = "metadata.json";
/// The document with one record for each file.
pub const FILES_METADATA: &str = "files_metadata.json";
/// The folder of a backup's parts.
pub const TAR_PARTITIONS: &str = "tar_partitions/";

/// The commit marker of a backup: `<folder><name>_backup_stop_sentinel.json`.
pub fn sentinel(folder: &str, name: &str) -> Key {
    Key::foreign(folder).join(&format!("{name}{SENTINEL_SUFFIX}"))
}

/// Everything of a backup but its sentinel: the prefix `<folder><name>/`.
pub fn backup(folder: &str, name: &str) -> Key {
    Key::foreign(folder).join(&format!("{name}/"))
}

/// A backup's `metadata.json`.
pub fn metadata(folder: &str, name: &str) -> Key {
    backup(folder, name).join(METADATA)
}

/// A backup's `files_metadata.json`.
pub fn files_metadata(folder: &str, name: &str) -> Key {
    backup(folder, name).join(FILES_METADATA)
}

/// The parts of a backup: the prefix `<folder><name>/tar_partitions/`.
pub fn tar_partitions(folder: &str, name: &str) -> Key {
    backup(folder, name).join(TAR_PARTITIONS)
}

/// The name of a part, without its folder: `part_001.tar.lz4`. `ext` is the
/// codec's extension without a dot, empty for none.
pub fn part_name(number: u32, ext: &str) -> String {
    with_extension(&format!("part_{number:03}.tar"), ext)
}

/// Part `number` (from 1) of a backup.
pub fn part(folder: &str, name: &str, number: u32, ext: &str) -> Key {
    tar_partitions(folder, name).join(&part_name(number, ext))
}

/// The name of the part with `pg_control` alone, without its folder.
pub fn pg_control_name(ext: &str) -> String {
    with_extension("pg_control.tar", ext)
}

/// The part with `pg_control` alone.
pub fn pg_control_tar(folder: &str, name: &str, ext: &str) -> Key {
    tar_partitions(folder, name).join(&pg_control_name(ext))
}

/// The name of the part with `backup_label` and `tablespace_map`, without its folder.
pub fn backup_label_name(ext: &str) -> String {
    with_extension("backup_label.tar", ext)
}

/// The part with `backup_label` and `tablespace_map`.
pub fn backup_label_tar(folder: &str, name: &str, ext: &str) -> Key {
    tar_partitions(folder, name).join(&backup_label_name(ext))
}

/// A file of the WAL archive, with the codec's extension (empty for none).
pub fn wal(name: &str, ext: &str) -> Key {
    Key::foreign(WAL).join(&with_extension(name, ext))
}

/// `name`, a dot and `ext`; `name` alone where `ext` is empty.
pub fn with_extension(name: &str, ext: &str) -> String {
    if ext.is_empty() { name.to_owned() } else { format!("{name}.{ext}") }
}

/// The backup a sentinel commits; `None` for any other object.
pub fn backup_of_sentinel(key: &Key) -> Option<String> {
    key.name().strip_suffix(SENTINEL_SUFFIX).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Whether a part is the one with `pg_control`, in any codec.
pub fn is_pg_control_tar(name: &str) -> bool {
    is_special_tar(name, "pg_control.tar")
}

/// Whether a part is the one with `backup_label`, in any codec.
pub fn is_backup_label_tar(name: &str) -> bool {
    is_special_tar(name, "backup_label.tar")
}

/// `special` may stand anywhere in the name, and ends it or has an extension.
fn is_special_tar(name: &str, special: &str) -> bool {
    name.match_indices(special).any(|(at, found)| {
        let rest = &name[at + found.len()..];
        rest.is_empty() || (rest.len() > 1 && rest.starts_with('.'))
    })
}

/// Whether a backup's name has the form WAL-E used: two groups that end in an
/// underscore, as in `base_000000010000000000000002_00000040`. Names of delta
/// backups have it too, so ask only about full ones.
pub fn is_wale_name(name: &str) -> bool {
    after_wale_group(name).any(|rest| after_wale_group(rest).next().is_some())
}

/// What may follow a group: one or more characters that are no underscore, any
/// one character, an underscore.
fn after_wale_group(text: &str) -> impl Iterator<Item = &str> {
    let run = text.find('_').unwrap_or(text.len());
    let (head, tail) = text.split_at(run);
    let long = head.chars().nth(1).and_then(|_| tail.strip_prefix('_'));
    let short = head.chars().next().and_then(|_| tail.strip_prefix("__"));
    long.into_iter().chain(short)
}

/// The first run of 24 upper-case hexadecimal digits in `text`.
pub fn first_wal_name(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'0'..=b'9' | b'A'..=b'F') {
            from = at + 1;
        } else if at + 1 - from == 24 {
            return text.get(from..=at);
        }
    }
    None
}

/// The WAL file a backup's name tells, as `backup-list` prints it: the first 24
/// hexadecimal digits, or 24 letters `Z` if there are none.
pub fn wal_file_name(backup: &str) -> String {
    first_wal_name(backup).map_or_else(|| "Z".repeat(24), str::to_owned)
}

/// The name of a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackupName {
    wal: String,
    parent_wal: Option<String>,
    offset: Option<String>,
}

impl BackupName {
    /// A full backup that starts in `segment`: `base_<24 digits>`.
    pub fn full(segment: Segment, segment_size: u64) -> Self {
        Self { wal: segment.name(segment_size), parent_wal: None, offset: None }
    }

    /// A full backup that starts in the WAL file `wal_name`, as the server tells it.
    pub fn full_of(wal_name: &str) -> Result<Self> {
        if is_upper_hex(wal_name, 24) {
            Ok(Self { wal: wal_name.to_owned(), parent_wal: None, offset: None })
        } else {
            Err(invalid(format!("{wal_name:?} is not the name of a WAL segment")))
        }
    }

    /// The same backup as a delta of `parent`: `base_<24 digits>_D_<24 digits>`,
    /// the latter the first 24 digits of the parent's name. Without a name of
    /// the parent, as in a catch-up backup, the name stays that of a full backup.
    pub fn delta(self, parent: &str) -> Result<Self> {
        if parent.is_empty() {
            return Ok(self);
        }
        let parent_wal = first_wal_name(parent).ok_or_else(|| {
            invalid(format!("the name of backup {parent:?} holds no WAL segment"))
        })?;
        Ok(Self { parent_wal: Some(parent_wal.to_owned()), ..self })
    }

    /// Reads a whole name: `base_<24 digits>`, then `_D_<24 digits>` for a delta,
    /// then `_<8 digits>` for one made by WAL-E.
    pub fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("base_").and_then(Self::read) {
            Some((found, "")) => Ok(found),
            _ => Err(invalid(format!("{name:?} is not the name of a backup")).with_hint(
                "Names are as backup-list prints them, for example base_000000010000000000000002.",
            )),
        }
    }

    /// The first name of a backup inside `text`, which may go on after it.
    pub fn find(text: &str) -> Option<Self> {
        text.match_indices("base_")
            .find_map(|(at, found)| Self::read(&text[at + found.len()..]).map(|(name, _)| name))
    }

    /// Reads what follows `base_`, and gives what is left.
    fn read(text: &str) -> Option<(Self, &str)> {
        fn digits(text: &str, length: usize) -> Option<(&str, &str)> {
            let head = text.get(..length)?;
            is_upper_hex(head, length).then(|| (head, &text[length..]))
        }
        let (wal, rest) = digits(text, 24)?;
        let (parent_wal, rest) = match rest.strip_prefix("_D_").and_then(|rest| digits(rest, 24)) {
            Some((parent, rest)) => (Some(parent.to_owned()), rest),
            None => (None, rest),
        };
        let (offset, rest) = match rest.strip_prefix('_').and_then(|rest| digits(rest, 8)) {
            Some((offset, rest)) => (Some(offset.to_owned()), rest),
            None => (None, rest),
        };
        Some((Self { wal: wal.to_owned(), parent_wal, offset }, rest))
    }

    /// The WAL segment in which the backup starts: 24 hexadecimal digits.
    pub fn wal(&self) -> &str {
        &self.wal
    }

    /// The timeline on which the backup was taken.
    pub fn timeline(&self) -> u32 {
        u32::from_str_radix(&self.wal[..8], 16).unwrap_or(0)
    }

    /// The first 24 digits of the parent's name. Only a label: follow the
    /// sentinel's `DeltaFrom`.
    pub fn parent_wal(&self) -> Option<&str> {
        self.parent_wal.as_deref()
    }

    /// Whether the name is that of a delta backup.
    pub fn is_delta(&self) -> bool {
        self.parent_wal.is_some()
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base_{}", self.wal)?;
        if let Some(parent) = &self.parent_wal {
            write!(f, "_D_{parent}")?;
        }
        if let Some(offset) = &self.offset {
            write!(f, "_{offset}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for BackupName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = "base_000000010000000000000002";
    const DELTA: &str = "base_000000010000000000000004_D_000000010000000000000002";

    #[test]
    fn keys_are_where_wal_g_puts_them() {
        let cases = [
            (
                sentinel(BASE_BACKUPS, FULL),
                "basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json",
            ),
            (
                metadata(BASE_BACKUPS, FULL),
                "basebackups_005/base_000000010000000000000002/metadata.json",
            ),
            (
                files_metadata(CATCHUP, FULL),
                "catchup_005/base_000000010000000000000002/files_metadata.json",
            ),
            (tar_partitions(BASE_BACKUPS, "b"), "basebackups_005/b/tar_partitions/"),
            (
                part(BASE_BACKUPS, "b", 1, "lz4"),
                "basebackups_005/b/tar_partitions/part_001.tar.lz4",
            ),
            (part(BASE_BACKUPS, "b", 1000, ""), "basebackups_005/b/tar_partitions/part_1000.tar"),
            (
                pg_control_tar(BASE_BACKUPS, "b", "br"),
                "basebackups_005/b/tar_partitions/pg_control.tar.br",
            ),
            (
                backup_label_tar(BASE_BACKUPS, "b", ""),
                "basebackups_005/b/tar_partitions/backup_label.tar",
            ),
            (wal("00000002.history", "zst"), "wal_005/00000002.history.zst"),
            (wal("00000002.history", ""), "wal_005/00000002.history"),
        ];
        for (key, text) in cases {
            assert_eq!(key.as_str(), text);
            assert_eq!(Key::parse(text).unwrap(), key);
        }
    }

    #[test]
    fn sentinels_name_their_backup() {
        assert_eq!(backup_of_sentinel(&sentinel(BASE_BACKUPS, DELTA)).as_deref(), Some(DELTA));
        for other in [
            "basebackups_005/_backup_stop_sentinel.json",
            "basebackups_005/x/metadata.json",
            "a_backup_stop_sentinel.json/",
        ] {
            assert_eq!(backup_of_sentinel(&Key::foreign(other)), None, "{other}");
        }
    }

    #[test]
    fn special_parts_are_recognised_in_any_codec() {
        for yes in
            ["pg_control.tar", "pg_control.tar.lz4", "pg_control.tar.x.y", "old_pg_control.tar.zst"]
        {
            assert!(is_pg_control_tar(yes), "{yes}");
            assert!(!is_backup_label_tar(yes), "{yes}");
        }
        for no in ["pg_control", "pg_control.tar.", "pg_control.tarx", "part_001.tar.lz4", ""] {
            assert!(!is_pg_control_tar(no), "{no}");
        }
        assert!(is_backup_label_tar("backup_label.tar.br"));
        assert!(!is_backup_label_tar("backup_label.tar."));
    }

    #[test]
    fn wale_names_have_two_groups() {
        for yes in [
            "base_000000010000000000000002_00000040",
            DELTA,
            "ab_cd_",
            "a__b__",
            "ab_c__",
            "äb_cd_x",
        ] {
            assert!(is_wale_name(yes), "{yes}");
        }
        for no in [FULL, "", "a_b_", "_ab_cd_", "ab_c_", "abcd", "ab__cd"] {
            assert!(!is_wale_name(no), "{no}");
        }
    }

    #[test]
    fn backup_names_are_built_and_read() {
        let segment = Segment { timeline: 1, number: 2 };
        let full = BackupName::full(segment, 16 << 20);
        assert_eq!(full.to_string(), FULL);
        assert_eq!(BackupName::full_of(segment.name(16 << 20).as_str()).unwrap(), full);
        assert_eq!(full.clone().delta("").unwrap(), full);
        let delta =
            BackupName::full(Segment { timeline: 1, number: 4 }, 16 << 20).delta(FULL).unwrap();
        assert_eq!(delta.to_string(), DELTA);
        // A delta of a delta carries the first digits of its parent's name.
        let second =
            BackupName::full(Segment { timeline: 1, number: 6 }, 16 << 20).delta(DELTA).unwrap();
        assert_eq!(second.to_string(), "base_000000010000000000000006_D_000000010000000000000004");
        let wale = BackupName::parse("base_000000010000000000000002_00000040").unwrap();
        assert_eq!(wale.to_string(), "base_000000010000000000000002_00000040");
        assert!(!wale.is_delta());
        assert_eq!(delta.parent_wal(), Some("000000010000000000000002"));
        assert_eq!(BackupName::parse("base_0000000A0000000000000002").unwrap().timeline(), 10);
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "",
            "base_",
            "base_00000001000000000000002",
            "base_000000010000000000000002x",
            "BASE_000000010000000000000002",
            "base_00000001000000000000000a",
            "base_000000010000000000000002_D_",
            "base_000000010000000000000002/",
            "base_000000010000000000000002_D_00000001",
            "xbase_000000010000000000000002",
            "base_00000001000000000000000é",
        ] {
            assert_eq!(BackupName::parse(bad).unwrap_err().kind(), crate::Kind::Invalid, "{bad:?}");
        }
        assert!(BackupName::full_of("x").is_err());
        assert!(BackupName::full_of("000000010000000000000002").unwrap().delta("LATEST").is_err());
    }

    #[test]
    fn names_are_found_inside_text() {
        let found = |text: &str| BackupName::find(text).map(|name| name.to_string());
        assert_eq!(
            found("base_base_000000010000000000000002_backup_stop_sentinel.json").as_deref(),
            Some(FULL)
        );
        assert_eq!(
            found(&format!("basebackups_005/{DELTA}/metadata.json")).as_deref(),
            Some(DELTA)
        );
        assert_eq!(found("base_backup"), None);
        assert_eq!(wal_file_name(DELTA), "000000010000000000000004");
        assert_eq!(wal_file_name("mine"), "ZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(
            first_wal_name("x0000000100000000000000020000"),
            Some("000000010000000000000002")
        );
        assert_eq!(first_wal_name("é00000001000000000000000é"), None);
    }

    proptest! {
        #[test]
        fn a_name_read_and_written_is_the_same(
            name in "base_[0-9A-F]{24}(_D_[0-9A-F]{24})?(_[0-9A-F]{8})?"
        ) {
            let read = BackupName::parse(&name).unwrap();
            prop_assert_eq!(read.to_string(), name.clone());
            prop_assert_eq!(BackupName::find(&format!("x/{name}_y")).unwrap(), read);
            prop_assert_eq!(wal_file_name(&name), &name[5..29]);
        }

        #[test]
        fn any_text_is_handled(text in "(base_)?[0-9A-FD_é]{0,70}") {
            if let Ok(name) = BackupName::parse(&text) {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            let _ = BackupName::find(&text);
            let _ = is_wale_name(&text);
            prop_assert_eq!(wal_file_name(&text).len(), 24);
        }
    }
}
