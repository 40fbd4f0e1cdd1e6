//! The formats against Go itself: `data/go.jsonl` holds what the standard library
//! of Go 1.26 (with its newer JSON engine) made of random headers, values, times
//! and names. WAL-G is written in Go, so these are its bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use chrono::{DateTime, FixedOffset};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use walport_engine::layout::gojson::{self, Value};
use walport_engine::layout::tar::{Header, Kind, TarReader, TarWriter};
use walport_engine::layout::{BackupName, gotime, names};

fn cases(of: &str) -> Vec<Json> {
    let all = include_str!("data/go.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    let cases: Vec<Json> = all.filter(|case: &Json| case["is"] == of).collect();
    assert!(cases.len() > 100, "only {} cases of {of}", cases.len());
    cases
}

fn bytes(field: &Json) -> Vec<u8> {
    hex::decode(field.as_str().unwrap()).unwrap()
}

fn text(field: &Json) -> String {
    String::from_utf8(bytes(field)).unwrap()
}

fn header(case: &Json) -> Header {
    let number = |field: &str| u32::try_from(case[field].as_u64().unwrap()).unwrap();
    let target = bytes(&case["link"]);
    Header {
        name: bytes(&case["name"]),
        size: case["size"].as_u64().unwrap(),
        mode: number("mode"),
        uid: number("uid"),
        gid: number("gid"),
        uname: case["uname"].as_str().unwrap().to_owned(),
        gname: case["gname"].as_str().unwrap().to_owned(),
        mtime: case["mtime"].as_i64().unwrap(),
        kind: match case["kind"].as_str().unwrap() {
            "file" => Kind::File,
            "directory" => Kind::Directory,
            "symlink" => Kind::Symlink { target },
            "hardlink" => Kind::Hardlink { target },
            "char" => Kind::CharDevice { major: number("major"), minor: number("minor") },
            "fifo" => Kind::Fifo,
            other => panic!("{other}"),
        },
    }
}

#[test]
fn tar_headers_are_those_of_go() {
    let (mut written, mut refused) = (0, 0);
    for case in cases("tar") {
        let header = header(&case);
        let mut writer = TarWriter::new(Vec::new());
        let result = writer.append(&header);
        let Some(digest) = case["sha256"].as_str() else {
            assert!(result.is_err(), "Go refuses {header:?}");
            refused += 1;
            continue;
        };
        result.unwrap_or_else(|error| panic!("{error} {header:?}"));
        let block = writer.into_inner();
        assert_eq!(block.len() as u64, case["length"], "{header:?}");
        assert_eq!(
            hex::encode(Sha256::digest(&block)),
            digest,
            "{header:?} {}",
            block.escape_ascii()
        );
        written += 1;

        let read = TarReader::new(&block[..]).next().unwrap().unwrap();
        let go = &case["read"];
        let link = match &read.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => target.clone(),
            _ => Vec::new(),
        };
        assert_eq!((read.name.clone(), link), (bytes(&go["name"]), bytes(&go["link"])));
        assert_eq!(u64::from(read.mode), go["mode"].as_u64().unwrap() & 0o7777);
        assert_eq!(
            (Json::from(read.uid), Json::from(read.gid)),
            (go["uid"].clone(), go["gid"].clone())
        );
        assert_eq!(
            (Json::from(read.uname), Json::from(read.gname)),
            (go["uname"].clone(), go["gname"].clone())
        );
        assert_eq!(
            (Json::from(read.mtime), Json::from(read.size)),
            (go["mtime"].clone(), go["size"].clone())
        );
    }
    assert!(written > 100 && refused > 5, "{written} written, {refused} refused");
}

#[test]
fn values_without_a_schema_are_those_of_go() {
    for case in cases("any") {
        let json = bytes(&case["json"]);
        let ours = Value::parse(&json).and_then(|value| gojson::to_vec_v1(&value));
        match &case["v1"] {
            Json::Null => assert!(ours.is_err(), "Go refuses {}", json.escape_ascii()),
            v1 => assert_eq!(
                ours.unwrap().escape_ascii().to_string(),
                bytes(v1).escape_ascii().to_string(),
                "{}",
                json.escape_ascii()
            ),
        }
    }
}

#[test]
fn strings_and_floats_are_those_of_go() {
    for case in cases("string") {
        let string = text(&case["text"]);
        assert_eq!(
            String::from_utf8(gojson::to_vec_v1(&string).unwrap()).unwrap(),
            text(&case["v1"])
        );
        assert_eq!(
            String::from_utf8(gojson::to_vec_v2(&string).unwrap()).unwrap(),
            text(&case["v2"])
        );
    }
    for case in cases("float") {
        let value =
            f64::from_bits(u64::from_str_radix(case["bits"].as_str().unwrap(), 16).unwrap());
        assert_eq!(gojson::format_float(value), case["text"].as_str().unwrap());
    }
}

#[test]
fn times_are_those_of_go() {
    for case in cases("time") {
        let nanos = u32::try_from(case["nanos"].as_u64().unwrap()).unwrap();
        let utc = DateTime::from_timestamp(case["secs"].as_i64().unwrap(), nanos).unwrap();
        let zone =
            FixedOffset::east_opt(case["offset"].as_i64().unwrap().try_into().unwrap()).unwrap();
        let local = utc.with_timezone(&zone);
        assert_eq!(gotime::rfc3339_nano(&local), case["rfc3339nano"]);
        assert_eq!(gotime::rfc3339(&local), case["rfc3339"]);
        assert_eq!(gotime::rfc850(&utc), case["rfc850"]);
        assert_eq!(gotime::go_default(&utc), case["default"]);
        assert_eq!(Json::from(Header::round_mtime(utc.timestamp(), nanos)), case["rounded"]);
        assert_eq!(gotime::parse_rfc3339(case["rfc3339nano"].as_str().unwrap()).unwrap(), utc);
    }
}

#[test]
fn times_are_read_as_go_reads_them() {
    for case in cases("parse") {
        let ours = gotime::parse_rfc3339(case["text"].as_str().unwrap());
        match case["secs"].as_i64() {
            None => assert!(ours.is_err(), "Go refuses {}", case["text"]),
            // A day and more is no offset, and nobody writes it.
            Some(_) if case["offset"].as_i64().unwrap().abs() >= 86_400 => assert!(ours.is_err()),
            Some(seconds) => {
                let ours = ours.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(
                    (ours.timestamp(), Json::from(ours.timestamp_subsec_nanos())),
                    (seconds, case["nanos"].clone())
                );
                assert_eq!(
                    Json::from(ours.offset().local_minus_utc()),
                    case["offset"],
                    "{}",
                    case["text"]
                );
            }
        }
    }
}

#[test]
fn names_are_recognised_as_by_the_expressions_of_wal_g() {
    for case in cases("name") {
        let name = case["name"].as_str().unwrap();
        assert_eq!(Json::from(names::is_pg_control_tar(name)), case["pg_control"], "{name}");
        assert_eq!(Json::from(names::is_backup_label_tar(name)), case["backup_label"], "{name}");
        assert_eq!(Json::from(names::is_wale_name(name)), case["wale"], "{name}");
        assert_eq!(names::wal_file_name(name), case["wal"], "{name}");
        let found = BackupName::find(name).map(|found| found.to_string()).unwrap_or_default();
        assert_eq!(found, case["backup"], "{name}");
        assert_eq!(BackupName::parse(name).is_ok(), found == name && !name.is_empty(), "{name}");
    }
}
