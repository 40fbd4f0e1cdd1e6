//! The listings that WAL-G printed for the golden trees, to the byte.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use walport_engine::layout::{Lsn, gojson, gotime};

use super::*;

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn time(value: &Value) -> DateTime<Utc> {
    gotime::parse_rfc3339(value.as_str().unwrap()).unwrap().with_timezone(&Utc)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The backups of a golden tree, out of WAL-G's own detailed listing.
fn backups(tree: &str, detail: bool) -> Vec<BackupInfo> {
    let list: Value =
        serde_json::from_str(&golden(&format!("{tree}.backuplistdetailjson.out"))).unwrap();
    let backup = |row: &Value| BackupInfo {
        name: text(&row["backup_name"]),
        modified: time(&row["time"]),
        wal_file_name: text(&row["wal_file_name"]),
        storage_name: text(&row["storage_name"]),
        detail: detail.then(|| Metadata {
            start_time: time(&row["start_time"]),
            finish_time: time(&row["finish_time"]),
            date_fmt: text(&row["date_fmt"]),
            hostname: text(&row["hostname"]),
            data_dir: text(&row["data_dir"]),
            pg_version: row["pg_version"].as_u64().unwrap() as u32,
            start_lsn: Lsn(row["start_lsn"].as_u64().unwrap()),
            finish_lsn: Lsn(row["finish_lsn"].as_u64().unwrap()),
            is_permanent: row["is_permanent"].as_bool().unwrap(),
            system_identifier: row["system_identifier"].as_u64(),
            uncompressed_size: row["uncompressed_size"].as_u64().unwrap(),
            compressed_size: row["compressed_size"].as_u64().unwrap(),
            user_data: row
                .get("user_data")
                .map(|data| gojson::Value::parse(data.to_string().as_bytes()).unwrap()),
        }),
    };
    list.as_array().unwrap().iter().map(backup).collect()
}

fn rendered(backups: &[BackupInfo], form: Form) -> String {
    String::from_utf8(render(backups, form).unwrap()).unwrap()
}

#[test]
fn golden_listings_come_out_to_the_byte() {
    for tree in ["zstd-chain", "zstd-nofiles"] {
        let short = backups(tree, false);
        assert!(!short.is_empty());
        assert_eq!(rendered(&short, Form::Plain), golden(&format!("{tree}.backuplist.out")));
        assert_eq!(rendered(&short, Form::Pretty), golden(&format!("{tree}.backuplistpretty.out")));
        assert_eq!(rendered(&short, Form::Json), golden(&format!("{tree}.backuplistjson.out")));
        assert_eq!(
            rendered(&backups(tree, true), Form::Json),
            golden(&format!("{tree}.backuplistdetailjson.out"))
        );
    }
}

#[test]
fn details_are_eight_columns_more() {
    let text = rendered(&backups("zstd-nofiles", true), Form::Plain);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].ends_with(
            " hostname data_dir                        pg_version start_lsn finish_lsn is_permanent"
        ),
        "{text}"
    );
    assert!(
        lines[1].ends_with(
            "vm       /var/lib/postgresql/golden/main 170010     0/E000028 0/E000120  false"
        ),
        "{text}"
    );
    let pretty = rendered(&backups("zstd-chain", true), Form::Pretty);
    assert!(
        pretty.contains("| START LSN | FINISH LSN | PERMANENT |")
            && pretty.contains("| true      |"),
        "{pretty}"
    );
}

#[test]
fn a_time_that_is_not_known_is_a_dash_and_no_backups_are_nothing() {
    let mut some = backups("zstd-nofiles", false);
    some[0].modified = gotime::zero();
    assert!(rendered(&some, Form::Plain).contains(" -        "));
    assert_eq!(rendered(&[], Form::Plain), "");
    assert_eq!(rendered(&[], Form::Pretty), "");
    assert_eq!(rendered(&[], Form::Json), "[]\n");
    let indented = rendered(&some, Form::JsonPretty);
    assert!(indented.starts_with("[\n    {\n        \"backup_name\": \"base_"), "{indented}");
}
