//! The sentinel: the commit marker of a backup, and what a restore must know of it.

use chrono::{DateTime, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::gojson::{self, Value};
use super::metadata::{DATE_FORMAT, Member, Members};
use super::{Lsn, TablespaceSpec, corrupt, gotime};
use crate::error::Result;

/// `<backup>_backup_stop_sentinel.json`.
///
/// Serializes in WAL-G's order with its rules of omission. A document of
/// version 0 is an old one without the fields from [`Sentinel::version`] on:
/// they read as zero, and are not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// Where the backup starts; absent in sentinels made by other tools only.
    pub lsn: Option<Lsn>,
    /// What the backup is a delta of; `None` for a full backup.
    pub delta: Option<Delta>,
    /// The server's version as a number: 170010.
    pub pg_version: u32,
    /// Where the backup is consistent.
    pub finish_lsn: Option<Lsn>,
    /// The cluster's identifier.
    pub system_identifier: Option<u64>,
    /// Bytes of all files in the parts.
    pub uncompressed_size: u64,
    /// Bytes stored.
    pub compressed_size: u64,
    /// Bytes of the data directory; 0 is unknown.
    pub data_catalog_size: u64,
    /// Where the data directory and its tablespaces were.
    pub spec: Option<TablespaceSpec>,
    /// What the user attached.
    pub user_data: Option<Value>,
    /// The backup has no `files_metadata.json`, on purpose.
    pub files_metadata_disabled: bool,
    /// OrioleDB's checkpoint; absent elsewhere.
    pub chkp_num: Option<u32>,
    /// OrioleDB's checkpoint of the parent.
    pub delta_chkp_num: Option<u32>,
    /// The version of the document: 2.
    pub version: u32,
    /// When the backup began.
    pub start_time: DateTime<Utc>,
    /// When its last part was stored.
    pub finish_time: DateTime<Utc>,
    /// The form of the times: [`DATE_FORMAT`].
    pub date_fmt: String,
    /// The host that pushed the backup.
    pub hostname: String,
    /// The data directory.
    pub data_dir: String,
    /// Whether the backup was pushed as permanent. Never updated afterwards: ask
    /// [`Metadata`](super::Metadata) instead.
    pub is_permanent: bool,
    /// The form of the increments, where another tool names one that is not
    /// WAL-G's. Read, never written.
    pub increment_format: Option<String>,
}

/// What a delta backup builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Where the parent starts: pages from here on are in the delta.
    pub lsn: Lsn,
    /// The parent; empty for a catch-up backup.
    pub from: String,
    /// The full backup at the root of the chain.
    pub full_name: String,
    /// How many deltas there are from the root to here: 1 for the first.
    pub count: u32,
}

impl Default for Sentinel {
    fn default() -> Self {
        Self {
            lsn: None,
            delta: None,
            pg_version: 0,
            finish_lsn: None,
            system_identifier: None,
            uncompressed_size: 0,
            compressed_size: 0,
            data_catalog_size: 0,
            spec: None,
            user_data: None,
            files_metadata_disabled: false,
            chkp_num: None,
            delta_chkp_num: None,
            version: 2,
            start_time: gotime::zero(),
            finish_time: gotime::zero(),
            date_fmt: DATE_FORMAT.to_owned(),
            hostname: String::new(),
            data_dir: String::new(),
            is_permanent: false,
            increment_format: None,
        }
    }
}

const FIELDS: &[&str] = &[
    "LSN",
    "DeltaLSN",
    "DeltaFrom",
    "DeltaFullName",
    "DeltaCount",
    "PgVersion",
    "FinishLSN",
    "SystemIdentifier",
    "UncompressedSize",
    "CompressedSize",
    "DataCatalogSize",
    "Spec",
    "spec",
    "UserData",
    "FilesMetadataDisabled",
    "ChkpNum",
    "DeltaChkpNum",
    "Version",
    "StartTime",
    "FinishTime",
    "DateFmt",
    "Hostname",
    "DataDir",
    "IsPermanent",
    "IncrementFormat",
];

/// The fields of which a delta has all and a full backup none.
#[derive(Default)]
struct DeltaFields {
    lsn: Option<u64>,
    from: Option<String>,
    full_name: Option<String>,
    count: Option<u32>,
}

impl DeltaFields {
    fn finish(self) -> Result<Option<Delta>> {
        let Some(from) = self.from else { return Ok(None) };
        let missing = |field: &str| {
            corrupt(format!("sentinel: \"DeltaFrom\" is there, but {field:?} is not"))
        };
        Ok(Some(Delta {
            lsn: Lsn(self.lsn.ok_or_else(|| missing("DeltaLSN"))?),
            from,
            full_name: self.full_name.ok_or_else(|| missing("DeltaFullName"))?,
            count: self.count.ok_or_else(|| missing("DeltaCount"))?,
        }))
    }
}

impl Sentinel {
    /// Reads the document. A delta that does not say what it builds on is an
    /// error; so is a value of the wrong type.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut read = Self { version: 0, date_fmt: String::new(), ..Self::default() };
        let mut delta = DeltaFields::default();
        let (mut lsn, mut finish_lsn) = (None, None);
        let (mut spec, mut wale_spec) = (None, None);
        Members::parse("sentinel", json)?.each(FIELDS, |member| match member.field {
            "LSN" => member.optional(&mut lsn),
            "FinishLSN" => member.optional(&mut finish_lsn),
            "DeltaLSN" => member.optional(&mut delta.lsn),
            "DeltaFrom" => member.optional_text(&mut delta.from),
            "DeltaFullName" => member.optional_text(&mut delta.full_name),
            "DeltaCount" => member.optional(&mut delta.count),
            "Spec" => member.any(&mut spec),
            "spec" => member.any(&mut wale_spec),
            _ => read.set(&member),
        })?;
        read.lsn = lsn.map(Lsn);
        read.finish_lsn = finish_lsn.map(Lsn);
        read.delta = delta.finish()?;
        let spec = spec.or(wale_spec).map(|spec| TablespaceSpec::from_value(&spec));
        read.spec = spec.transpose().map_err(|error| error.context("sentinel"))?;
        Ok(read)
    }

    fn set(&mut self, member: &Member<'_>) -> Result<()> {
        match member.field {
            "PgVersion" => member.integer(&mut self.pg_version),
            "SystemIdentifier" => member.optional(&mut self.system_identifier),
            "UncompressedSize" => member.integer(&mut self.uncompressed_size),
            "CompressedSize" => member.integer(&mut self.compressed_size),
            "DataCatalogSize" => member.integer(&mut self.data_catalog_size),
            "UserData" => member.any(&mut self.user_data),
            "FilesMetadataDisabled" => member.boolean(&mut self.files_metadata_disabled),
            "ChkpNum" => member.optional(&mut self.chkp_num),
            "DeltaChkpNum" => member.optional(&mut self.delta_chkp_num),
            "Version" => member.integer(&mut self.version),
            "StartTime" => member.time(&mut self.start_time),
            "FinishTime" => member.time(&mut self.finish_time),
            "DateFmt" => member.text(&mut self.date_fmt),
            "Hostname" => member.text(&mut self.hostname),
            "DataDir" => member.text(&mut self.data_dir),
            "IsPermanent" => member.boolean(&mut self.is_permanent),
            _ => member.optional_text(&mut self.increment_format),
        }
    }

    /// The document, byte for byte as WAL-G writes it.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        gojson::to_vec_v1(self)
    }

    /// Whether the backup needs its parent to be restored.
    pub fn is_delta(&self) -> bool {
        self.delta.is_some()
    }
}

impl Serialize for Sentinel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("LSN", &self.lsn)?;
        if let Some(delta) = &self.delta {
            map.serialize_entry("DeltaLSN", &delta.lsn)?;
            map.serialize_entry("DeltaFrom", &delta.from)?;
            map.serialize_entry("DeltaFullName", &delta.full_name)?;
            map.serialize_entry("DeltaCount", &delta.count)?;
        }
        map.serialize_entry("PgVersion", &self.pg_version)?;
        map.serialize_entry("FinishLSN", &self.finish_lsn)?;
        if let Some(identifier) = &self.system_identifier {
            map.serialize_entry("SystemIdentifier", identifier)?;
        }
        map.serialize_entry("UncompressedSize", &self.uncompressed_size)?;
        map.serialize_entry("CompressedSize", &self.compressed_size)?;
        if self.data_catalog_size != 0 {
            map.serialize_entry("DataCatalogSize", &self.data_catalog_size)?;
        }
        if let Some(spec) = &self.spec {
            map.serialize_entry("Spec", spec)?;
        }
        if let Some(data) = &self.user_data {
            map.serialize_entry("UserData", data)?;
        }
        if self.files_metadata_disabled {
            map.serialize_entry("FilesMetadataDisabled", &true)?;
        }
        map.serialize_entry("ChkpNum", &self.chkp_num)?;
        if let Some(number) = &self.delta_chkp_num {
            map.serialize_entry("DeltaChkpNum", number)?;
        }
        if self.version != 0 {
            map.serialize_entry("Version", &self.version)?;
            map.serialize_entry("StartTime", &gotime::rfc3339_nano(&self.start_time))?;
            map.serialize_entry("FinishTime", &gotime::rfc3339_nano(&self.finish_time))?;
            map.serialize_entry("DateFmt", &self.date_fmt)?;
            map.serialize_entry("Hostname", &self.hostname)?;
            map.serialize_entry("DataDir", &self.data_dir)?;
            map.serialize_entry("IsPermanent", &self.is_permanent)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn text(sentinel: &Sentinel) -> String {
        String::from_utf8(sentinel.to_json().unwrap()).unwrap()
    }

    #[test]
    fn absent_fields_are_absent_and_null_ones_null() {
        assert_eq!(
            text(&Sentinel::default()),
            r#"{"LSN":null,"PgVersion":0,"FinishLSN":null,"UncompressedSize":0,"CompressedSize":0,"ChkpNum":null,"Version":2,"StartTime":"0001-01-01T00:00:00Z","FinishTime":"0001-01-01T00:00:00Z","DateFmt":"%Y-%m-%dT%H:%M:%S.%fZ","Hostname":"","DataDir":"","IsPermanent":false}"#
        );
    }

    #[test]
    fn old_sentinels_are_read_and_stay_old() {
        let old = r#"{"LSN":33554472,"PgVersion":90600,"FinishLSN":33554720,"UncompressedSize":1,"CompressedSize":2,"ChkpNum":null}"#;
        let read = Sentinel::parse(old.as_bytes()).unwrap();
        assert_eq!(read.version, 0);
        assert!(gotime::is_zero(&read.start_time));
        assert_eq!(text(&read), old);
        // Fields of still older ones, and of WAL-E.
        let older = br#"{"LSN":1,"Files":{"/a":{"MTime":"x"}},"TarFileSets":7,"DeltaFromLSN":5,"spec":{"base_prefix":"/d","tablespaces":[]},"wal_segment_backup_start":"x"}"#;
        let read = Sentinel::parse(older).unwrap();
        assert_eq!(read.lsn, Some(Lsn(1)));
        assert_eq!(read.spec, Some(TablespaceSpec::new("/d")));
        assert!(!read.is_delta());
    }

    #[test]
    fn the_upper_case_spec_wins_wherever_it_stands() {
        let (one, two) = (r#""Spec":{"base_prefix":"/1"}"#, r#""spec":{"base_prefix":"/2"}"#);
        for json in [format!("{{{one},{two}}}"), format!("{{{two},{one}}}")] {
            assert_eq!(
                Sentinel::parse(json.as_bytes()).unwrap().spec,
                Some(TablespaceSpec::new("/1"))
            );
        }
        let json = format!("{{\"Spec\":null,{two}}}");
        assert_eq!(Sentinel::parse(json.as_bytes()).unwrap().spec, Some(TablespaceSpec::new("/2")));
        assert!(
            Sentinel::parse(br#"{"Spec":{}}"#).unwrap_err().to_string().contains("base_prefix")
        );
    }

    #[test]
    fn a_delta_must_say_what_it_builds_on() {
        let whole = r#"{"DeltaLSN":1,"DeltaFrom":"","DeltaFullName":"","DeltaCount":1}"#;
        let read = Sentinel::parse(whole.as_bytes()).unwrap();
        assert_eq!(
            read.delta,
            Some(Delta { lsn: Lsn(1), from: String::new(), full_name: String::new(), count: 1 })
        );
        for field in ["DeltaLSN", "DeltaFullName", "DeltaCount"] {
            for other in ["Other", "x"] {
                let error = Sentinel::parse(whole.replace(field, other).as_bytes()).unwrap_err();
                assert_eq!(error.kind(), crate::Kind::Corrupt);
                assert!(error.to_string().contains(field), "{error}");
            }
        }
        let full = whole.replace("\"DeltaFrom\":\"\"", "\"DeltaFrom\":null");
        assert!(!Sentinel::parse(full.as_bytes()).unwrap().is_delta());
    }

    #[test]
    fn a_foreign_increment_format_is_seen() {
        let read = Sentinel::parse(br#"{"IncrementFormat":"native"}"#).unwrap();
        assert_eq!(read.increment_format.as_deref(), Some("native"));
        assert!(!text(&read).contains("native"));
    }

    #[test]
    fn wrong_documents_are_corrupt() {
        for bad in [
            "",
            "[]",
            "7",
            "{",
            r#"{"LSN":"0/1"}"#,
            r#"{"LSN":-1}"#,
            r#"{"Version":[]}"#,
            r#"{"StartTime":"x"}"#,
            "{}x",
        ] {
            assert_eq!(
                Sentinel::parse(bad.as_bytes()).unwrap_err().kind(),
                crate::Kind::Corrupt,
                "{bad}"
            );
        }
    }

    prop_compose! {
        fn sentinels()(
            numbers: [u64; 4], small: [u32; 3], lsn: Option<u64>, id: Option<u64>, flags: [bool; 3],
            host in "[a-z<>&é]{0,8}", delta: Option<(u64, u32)>, secs in 0i64..253_402_300_000, nanos in 0u32..1_000_000_000
        ) -> Sentinel {
            let time = DateTime::from_timestamp(secs, nanos).unwrap();
            Sentinel {
                lsn: lsn.map(Lsn),
                delta: delta.map(|(lsn, count)| Delta { lsn: Lsn(lsn), from: host.clone(), full_name: "f".into(), count }),
                pg_version: small[0], finish_lsn: lsn.map(Lsn), system_identifier: id, uncompressed_size: numbers[0],
                compressed_size: numbers[1], data_catalog_size: numbers[2] % 2, chkp_num: delta.map(|(_, count)| count),
                spec: flags[0].then(|| TablespaceSpec::new("/d")), user_data: flags[1].then(|| Value::String(host.clone())),
                files_metadata_disabled: flags[2], start_time: time, finish_time: time, hostname: host, data_dir: "/d".into(),
                is_permanent: flags[0], ..Sentinel::default()
            }
        }
    }

    proptest! {
        #[test]
        fn a_sentinel_read_and_written_is_the_same(sentinel in sentinels()) {
            let json = sentinel.to_json().unwrap();
            prop_assert_eq!(&Sentinel::parse(&json).unwrap(), &sentinel);
            prop_assert_eq!(Sentinel::parse(&json).unwrap().to_json().unwrap(), json);
        }
    }
}
