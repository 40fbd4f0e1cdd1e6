//! Names: keys, segments, backups, parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walport_engine::layout::{BackupName, Segment, WalFile, names};
use walport_engine::storage::Key;

fuzz_target!(|text: &str| {
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text);
        let _ = names::backup_of_sentinel(&key);
    }
    for size in [1 << 20, 16 << 20, 1 << 30] {
        if let Ok(segment) = Segment::parse(text, size) {
            assert_eq!(segment.name(size), text);
        }
        if let Some(segment) = WalFile::classify(text, size).segment() {
            assert!(text.starts_with(&segment.name(size)));
        }
    }
    if let Ok(name) = BackupName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
    if let Some(name) = BackupName::find(text) {
        assert!(text.contains(&name.to_string()));
    }
    assert_eq!(names::wal_file_name(text).len(), 24);
    let _ = (
        names::is_wale_name(text),
        names::is_pg_control_tar(text),
        names::is_backup_label_tar(text),
    );
});
