//! `backup-list`: WAL-G's columns, titles and members.

use serde_json::{Map, Value, json};
use walport_engine::Result;
use walport_engine::backup::list::BackupInfo;
use walport_engine::layout::{Metadata, gotime};

use super::{Form, json, table};

const NAMES: &[&str] = &[
    "backup_name",
    "modified",
    "wal_file_name",
    "storage_name",
    "start_time",
    "finish_time",
    "hostname",
    "data_dir",
    "pg_version",
    "start_lsn",
    "finish_lsn",
    "is_permanent",
];
const TITLES: &[&str] = &[
    "Backup name",
    "Modified",
    "WAL file name",
    "Storage name",
    "Start time",
    "Finish time",
    "Hostname",
    "Datadir",
    "PG version",
    "Start LSN",
    "Finish LSN",
    "Permanent",
];
/// The columns of a listing without details.
const SHORT: usize = 4;

/// Renders a list of backups, in the order in which they come.
pub fn render(backups: &[BackupInfo], form: Form) -> Result<Vec<u8>> {
    match form {
        Form::Plain | Form::Pretty => {
            let columns = if backups.iter().any(|backup| backup.detail.is_some()) {
                NAMES.len()
            } else {
                SHORT
            };
            let rows: Vec<_> = backups.iter().map(|backup| cells(backup, form, columns)).collect();
            Ok(table::render(&NAMES[..columns], &TITLES[..columns], &rows, form))
        }
        Form::Json | Form::JsonPretty => {
            let rows: Vec<_> = backups.iter().map(document).collect();
            json(&rows, form == Form::JsonPretty)
        }
    }
}

fn cells(backup: &BackupInfo, form: Form, columns: usize) -> Vec<String> {
    let time = |time| match time {
        time if gotime::is_zero(time) => "-".to_owned(),
        time if form == Form::Pretty => gotime::rfc850(time),
        time => gotime::rfc3339(time),
    };
    let mut cells = vec![
        backup.name.clone(),
        time(&backup.modified),
        backup.wal_file_name.clone(),
        backup.storage_name.clone(),
    ];
    if let Some(detail) = &backup.detail {
        cells.extend([
            time(&detail.start_time),
            time(&detail.finish_time),
            detail.hostname.clone(),
            detail.data_dir.clone(),
            detail.pg_version.to_string(),
            detail.start_lsn.to_string(),
            detail.finish_lsn.to_string(),
            detail.is_permanent.to_string(),
        ]);
    }
    // A backup without metadata among others that have it.
    cells.resize(columns, "-".to_owned());
    cells
}

fn document(backup: &BackupInfo) -> Value {
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    add("backup_name", json!(backup.name));
    add("time", json!(gotime::rfc3339_nano(&backup.modified)));
    add("wal_file_name", json!(backup.wal_file_name));
    add("storage_name", json!(backup.storage_name));
    if let Some(detail) = &backup.detail {
        add_detail(detail, add);
    }
    Value::Object(members)
}

fn add_detail(detail: &Metadata, mut add: impl FnMut(&str, Value)) {
    add("start_time", json!(gotime::rfc3339_nano(&detail.start_time)));
    add("finish_time", json!(gotime::rfc3339_nano(&detail.finish_time)));
    add("date_fmt", json!(detail.date_fmt));
    add("hostname", json!(detail.hostname));
    add("data_dir", json!(detail.data_dir));
    add("pg_version", json!(detail.pg_version));
    add("start_lsn", json!(detail.start_lsn));
    add("finish_lsn", json!(detail.finish_lsn));
    add("is_permanent", json!(detail.is_permanent));
    add("system_identifier", json!(detail.system_identifier));
    add("uncompressed_size", json!(detail.uncompressed_size));
    add("compressed_size", json!(detail.compressed_size));
    if let Some(data) = &detail.user_data {
        add("user_data", json!(data));
    }
}

#[cfg(test)]
mod tests;
