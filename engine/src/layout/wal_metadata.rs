//! WAL metadata: the small documents beside segments that say when they were made.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::gojson;
use super::metadata::{DATE_FORMAT, Members};
use crate::error::Result;

/// The document of one WAL file, or of several: file name and time of creation,
/// sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalMetadata {
    /// The time at which each file was made.
    pub created: BTreeMap<String, DateTime<Utc>>,
}

#[derive(Serialize)]
struct Description<'a> {
    #[serde(serialize_with = "super::metadata::time")]
    created_time: &'a DateTime<Utc>,
    date_fmt: &'static str,
}

impl WalMetadata {
    /// The document of one file.
    pub fn of(name: impl Into<String>, created: DateTime<Utc>) -> Self {
        Self { created: BTreeMap::from([(name.into(), created)]) }
    }

    /// Takes over what `other` says.
    pub fn merge(&mut self, other: Self) {
        self.created.extend(other.created);
    }

    /// Reads the document.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut created = BTreeMap::new();
        for (name, value) in Members::parse("WAL metadata", json)?.into_members() {
            let mut time = super::gotime::zero();
            Members::of("WAL metadata", value)?
                .each(&["created_time"], |member| member.time(&mut time))?;
            created.insert(name, time);
        }
        Ok(Self { created })
    }

    /// The document, byte for byte as WAL-G writes it.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let described = |time| Description { created_time: time, date_fmt: DATE_FORMAT };
        let members: BTreeMap<_, _> =
            self.created.iter().map(|(name, time)| (name, described(time))).collect();
        gojson::to_vec_v1(&members)
    }
}

/// The name of the document for one file: `<name>.json`.
pub fn individual_name(wal_name: &str) -> String {
    format!("{wal_name}.json")
}

/// The name of the document for a group of sixteen files, if `wal_name` is the
/// last of one: its first 23 characters and `.json`.
pub fn bulk_name(wal_name: &str) -> Option<String> {
    bulk_stem(wal_name).map(|stem| format!("{stem}.json"))
}

/// What the names of a group begin with, if `wal_name` is the last of one.
pub fn bulk_stem(wal_name: &str) -> Option<&str> {
    wal_name.strip_suffix('F').filter(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_are_merged_sorted() {
        let time = |nanos| DateTime::from_timestamp(1_795_424_923, nanos).unwrap();
        let mut both = WalMetadata::of("00000001000000000000001F", time(0));
        both.merge(WalMetadata::of("000000010000000000000010", time(461_346_404)));
        let json = both.to_json().unwrap();
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            r#"{"000000010000000000000010":{"created_time":"2026-11-23T09:08:43.461346404Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ"},"00000001000000000000001F":{"created_time":"2026-11-23T09:08:43Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ"}}"#
        );
        assert_eq!(WalMetadata::parse(&json).unwrap(), both);
        for bad in [r#"{"a":{"created_time":"x"}}"#, r#"{"a":[]}"#, "[]"] {
            assert_eq!(
                WalMetadata::parse(bad.as_bytes()).unwrap_err().kind(),
                crate::Kind::Corrupt
            );
        }
    }

    #[test]
    fn only_the_last_of_a_group_has_a_bulk_document() {
        assert_eq!(
            bulk_name("00000001000000000000001F").as_deref(),
            Some("00000001000000000000001.json")
        );
        assert_eq!(bulk_name("00000001000000000000001E"), None);
        assert_eq!(bulk_name(""), None);
        assert_eq!(individual_name("00000002.history"), "00000002.history.json");
    }
}
