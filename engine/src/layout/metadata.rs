//! `metadata.json`: what is worth knowing of a backup without reading its sentinel.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use super::gojson::{self, Value};
use super::sentinel::Sentinel;
use super::{Lsn, corrupt, gotime};
use crate::error::Result;

/// How WAL-G describes the form of the times in its documents.
pub const DATE_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%fZ";

/// `metadata.json` of a backup. Serializes in WAL-G's order; what a document
/// does not say reads as zero, and a missing time as [`gotime::zero`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// When the backup began.
    #[serde(serialize_with = "time")]
    pub start_time: DateTime<Utc>,
    /// When its last part was stored.
    #[serde(serialize_with = "time")]
    pub finish_time: DateTime<Utc>,
    /// The form of the times: [`DATE_FORMAT`].
    pub date_fmt: String,
    /// The host that pushed the backup.
    pub hostname: String,
    /// The data directory.
    pub data_dir: String,
    /// The server's version as a number: 170010.
    pub pg_version: u32,
    /// Where the backup starts.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub finish_lsn: Lsn,
    /// Whether the backup is protected from deletion. The truth is here, not in
    /// the sentinel.
    pub is_permanent: bool,
    /// The cluster's identifier.
    pub system_identifier: Option<u64>,
    /// Bytes of all files in the parts.
    pub uncompressed_size: u64,
    /// Bytes stored.
    pub compressed_size: u64,
    /// What the user attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<Value>,
}

/// A time as the documents have it.
pub(super) fn time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&gotime::rfc3339_nano(time))
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            start_time: gotime::zero(),
            finish_time: gotime::zero(),
            date_fmt: DATE_FORMAT.to_owned(),
            hostname: String::new(),
            data_dir: String::new(),
            pg_version: 0,
            start_lsn: Lsn(0),
            finish_lsn: Lsn(0),
            is_permanent: false,
            system_identifier: None,
            uncompressed_size: 0,
            compressed_size: 0,
            user_data: None,
        }
    }
}

const FIELDS: &[&str] = &[
    "start_time",
    "finish_time",
    "date_fmt",
    "hostname",
    "data_dir",
    "pg_version",
    "start_lsn",
    "finish_lsn",
    "is_permanent",
    "system_identifier",
    "uncompressed_size",
    "compressed_size",
    "user_data",
];

impl Metadata {
    /// What a sentinel says of its backup.
    pub fn of(sentinel: &Sentinel) -> Self {
        Self {
            start_time: sentinel.start_time,
            finish_time: sentinel.finish_time,
            date_fmt: sentinel.date_fmt.clone(),
            hostname: sentinel.hostname.clone(),
            data_dir: sentinel.data_dir.clone(),
            pg_version: sentinel.pg_version,
            start_lsn: sentinel.lsn.unwrap_or_default(),
            finish_lsn: sentinel.finish_lsn.unwrap_or_default(),
            is_permanent: sentinel.is_permanent,
            system_identifier: sentinel.system_identifier,
            uncompressed_size: sentinel.uncompressed_size,
            compressed_size: sentinel.compressed_size,
            user_data: sentinel.user_data.clone(),
        }
    }

    /// Reads the document.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut read = Self { date_fmt: String::new(), ..Self::default() };
        Members::parse("metadata", json)?.each(FIELDS, |member| match member.field {
            "start_time" => member.time(&mut read.start_time),
            "finish_time" => member.time(&mut read.finish_time),
            "date_fmt" => member.text(&mut read.date_fmt),
            "hostname" => member.text(&mut read.hostname),
            "data_dir" => member.text(&mut read.data_dir),
            "pg_version" => member.integer(&mut read.pg_version),
            "start_lsn" => member.integer(&mut read.start_lsn.0),
            "finish_lsn" => member.integer(&mut read.finish_lsn.0),
            "is_permanent" => member.boolean(&mut read.is_permanent),
            "system_identifier" => member.optional(&mut read.system_identifier),
            "uncompressed_size" => member.integer(&mut read.uncompressed_size),
            "compressed_size" => member.integer(&mut read.compressed_size),
            _ => member.any(&mut read.user_data),
        })?;
        Ok(read)
    }

    /// The document, byte for byte as WAL-G writes it.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        gojson::to_vec_v1(self)
    }
}

/// The members of a document that is read as Go reads into a struct: unknown
/// ones are ignored, the last of duplicates wins, `null` changes nothing but
/// what may be absent.
pub(super) struct Members {
    document: &'static str,
    members: Vec<(String, Value)>,
}

/// One member with the field it belongs to.
pub(super) struct Member<'a> {
    document: &'static str,
    pub(super) field: &'static str,
    pub(super) value: &'a Value,
}

impl Members {
    /// Reads an object, or `null`, which counts as an empty one.
    pub(super) fn parse(document: &'static str, json: &[u8]) -> Result<Self> {
        Self::of(document, Value::parse(json).map_err(|error| error.context(document))?)
    }

    /// The members of an object, or of `null`, which counts as an empty one.
    pub(super) fn of(document: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Object(members) => Ok(Self { document, members }),
            Value::Null => Ok(Self { document, members: Vec::new() }),
            _ => Err(corrupt(format!("{document}: not an object"))),
        }
    }

    /// All of them, in the document's order.
    pub(super) fn into_members(self) -> Vec<(String, Value)> {
        self.members
    }

    /// Calls `set` for each member that is one of `fields`, in the document's order.
    pub(super) fn each(
        &self,
        fields: &[&'static str],
        mut set: impl FnMut(Member<'_>) -> Result<()>,
    ) -> Result<()> {
        for (name, value) in &self.members {
            if let Some(field) = gojson::field(name, fields) {
                set(Member { document: self.document, field, value })?;
            }
        }
        Ok(())
    }
}

impl Member<'_> {
    fn set<T>(&self, to: &mut T, read: Option<T>, what: &str) -> Result<()> {
        match read {
            Some(value) => *to = value,
            None if *self.value == Value::Null => {}
            None => {
                return Err(corrupt(format!("{}: {:?} is not {what}", self.document, self.field)));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, to: &mut String) -> Result<()> {
        self.set(to, self.value.as_str().map(str::to_owned), "a string")
    }

    pub(super) fn integer<N: std::str::FromStr>(&self, to: &mut N) -> Result<()> {
        self.set(to, self.value.as_integer(), "a number in range")
    }

    pub(super) fn boolean(&self, to: &mut bool) -> Result<()> {
        self.set(to, self.value.as_bool(), "true or false")
    }

    pub(super) fn time(&self, to: &mut DateTime<Utc>) -> Result<()> {
        let read = self.value.as_str().and_then(|text| gotime::parse_rfc3339(text).ok());
        self.set(to, read.map(|time| time.with_timezone(&Utc)), "a time")
    }

    pub(super) fn optional<N: std::str::FromStr>(&self, to: &mut Option<N>) -> Result<()> {
        *to = None;
        self.set(to, self.value.as_integer().map(Some), "a number in range")
    }

    pub(super) fn optional_text(&self, to: &mut Option<String>) -> Result<()> {
        *to = None;
        self.set(to, self.value.as_str().map(|text| Some(text.to_owned())), "a string")
    }

    /// Any value; `null` is none.
    #[allow(clippy::unnecessary_wraps)] // the same form as its sisters
    pub(super) fn any(&self, to: &mut Option<Value>) -> Result<()> {
        *to = (*self.value != Value::Null).then(|| self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_absent_or_null_reads_as_zero() {
        for json in [
            "{}",
            "null",
            r#"{"start_time":null,"pg_version":null,"hostname":null,"user_data":null,"is_permanent":null}"#,
        ] {
            let read = Metadata::parse(json.as_bytes()).unwrap();
            assert_eq!(read, Metadata { date_fmt: String::new(), ..Metadata::default() });
        }
        let json = String::from_utf8(Metadata::default().to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"start_time":"0001-01-01T00:00:00Z","finish_time":"0001-01-01T00:00:00Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ","hostname":"","data_dir":"","pg_version":0,"start_lsn":0,"finish_lsn":0,"is_permanent":false,"system_identifier":null,"uncompressed_size":0,"compressed_size":0}"#
        );
    }

    #[test]
    fn names_match_in_any_case_and_the_last_wins() {
        let json = br#" {"HOSTNAME":"a","hostname":"b","Hostname":"c","start_lsn":18446744073709551615,"x":[{}],"system_identifier":1,"system_identifier":null} "#;
        let read = Metadata::parse(json).unwrap();
        assert_eq!(
            (read.hostname.as_str(), read.start_lsn, read.system_identifier),
            ("c", Lsn(u64::MAX), None)
        );
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        for (json, field) in [
            (r#"{"start_time":"yesterday"}"#, "start_time"),
            (r#"{"pg_version":"17"}"#, "pg_version"),
            (r#"{"pg_version":1.0}"#, "pg_version"),
            (r#"{"start_lsn":18446744073709551616}"#, "start_lsn"),
            (r#"{"is_permanent":1}"#, "is_permanent"),
            (r#"{"system_identifier":"x"}"#, "system_identifier"),
            (r#"{"data_dir":[]}"#, "data_dir"),
            ("[]", "not an object"),
            ("{", "metadata"),
        ] {
            let error = Metadata::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Corrupt, "{json}");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
