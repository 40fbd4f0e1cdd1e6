//! Push, fetch and prefetch over a store in memory.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::{Fetched, fetch};
use super::prefetch::prefetch;
use super::push::push;
use crate::error::Kind;
use crate::storage::{Key, Put, StorageExt};
use crate::testing::{in_memory, run};

const SEGMENT: &str = "000000010000000000000007";

/// A segment of 1 MiB with a plausible first page.
fn segment(fill: u8) -> Vec<u8> {
    let mut data = vec![fill; 1 << 20];
    data[..40].fill(0);
    data[..4].copy_from_slice(&[0x10, 0xD1, 2, 0]);
    data[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    data
}

struct Wal(tempfile::TempDir);

impl Wal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pg_wal/archive_status")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("pg_wal").join(name)
    }

    fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, data).unwrap();
        path
    }

    fn ready(&self, name: &str) {
        self.file(name, &segment(9));
        fs::write(self.path("archive_status").join(format!("{name}.ready")), "").unwrap();
    }
}

const ONE: &[(&str, &str)] = &[("WALG_PG_WAL_SIZE", "1")];
const GUARDED: &[(&str, &str)] =
    &[("WALG_PG_WAL_SIZE", "1"), ("WALG_PREVENT_WAL_OVERWRITE", "true")];

#[test]
fn what_is_pushed_is_fetched() {
    let wal = Wal::new();
    let (store, context) = in_memory(ONE);
    run(async {
        let path = wal.file(SEGMENT, &segment(1));
        push(&context, &path).await.unwrap();
        assert_eq!(store.names(), [format!("wal_005/{SEGMENT}.lz4")]);
        let back = wal.path("back");
        assert_eq!(fetch(&context, SEGMENT, &back).await.unwrap(), Fetched::Found);
        assert_eq!(fs::read(&back).unwrap(), segment(1));
        let missing =
            fetch(&context, "000000010000000000000008", &wal.path("other")).await.unwrap();
        assert_eq!(missing, Fetched::Missing);
        assert!(!wal.path("other").exists());
        let again = fetch(&context, SEGMENT, &back).await.unwrap_err();
        assert_eq!(again.kind(), Kind::AlreadyExists);
    });
}

#[test]
fn a_guarded_segment_is_replaced_by_nothing_else() {
    let wal = Wal::new();
    let (_, context) = in_memory(GUARDED);
    run(async {
        push(&context, &wal.file(SEGMENT, &segment(1))).await.unwrap();
        push(&context, &wal.path(SEGMENT)).await.unwrap();
        let error = push(&context, &wal.file(SEGMENT, &segment(2))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.hint().is_some());
        fetch(&context, SEGMENT, &wal.path("back")).await.unwrap();
        assert_eq!(fs::read(wal.path("back")).unwrap(), segment(1));
    });
}

#[test]
fn a_guard_sees_objects_of_other_codecs() {
    let wal = Wal::new();
    let (store, context) = in_memory(GUARDED);
    run(async {
        let key = Key::parse(format!("wal_005/{SEGMENT}.zst")).unwrap();
        store.put_bytes(&key, segment(1), Put::default()).await.unwrap();
        push(&context, &wal.file(SEGMENT, &segment(1))).await.unwrap();
        assert_eq!(store.names().len(), 1);
        assert!(push(&context, &wal.file(SEGMENT, &segment(2))).await.is_err());
        assert_eq!(store.names().len(), 1);
    });
}

#[test]
fn an_unguarded_segment_is_replaced_and_history_never() {
    let wal = Wal::new();
    let (_, context) = in_memory(ONE);
    run(async {
        push(&context, &wal.file(SEGMENT, &segment(1))).await.unwrap();
        push(&context, &wal.file(SEGMENT, &segment(2))).await.unwrap();
        push(&context, &wal.file("00000002.history", b"1\t0/5000000\tno reason\n")).await.unwrap();
        push(&context, &wal.path("00000002.history")).await.unwrap();
        let error = push(&context, &wal.file("00000002.history", b"other")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
    });
}

#[test]
fn of_two_different_pushes_at_once_one_wins() {
    let (one, two) = (Wal::new(), Wal::new());
    let (_, context) = in_memory(GUARDED);
    run(async {
        let (a, b) = (one.file(SEGMENT, &segment(1)), two.file(SEGMENT, &segment(2)));
        let (first, second) = futures_util::join!(push(&context, &a), push(&context, &b));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let winner = if first.is_ok() { 1 } else { 2 };
        fetch(&context, SEGMENT, &one.path("back")).await.unwrap();
        assert_eq!(fs::read(one.path("back")).unwrap(), segment(winner));
    });
}

#[test]
fn ready_segments_are_archived_ahead_and_then_acknowledged() {
    let wal = Wal::new();
    let (store, context) = in_memory(ONE);
    let next = "000000010000000000000008";
    run(async {
        wal.ready(SEGMENT);
        wal.ready(next);
        push(&context, &wal.path(SEGMENT)).await.unwrap();
        let marker = wal.path("walg_data/walg_archive_status").join(next);
        assert!(store.names().contains(&format!("wal_005/{next}.lz4")));
        assert!(marker.exists());
        push(&context, &wal.path(next)).await.unwrap();
        assert!(!marker.exists());
    });
}

#[test]
fn a_marker_does_not_acknowledge_what_is_not_stored() {
    let wal = Wal::new();
    let (store, context) = in_memory(ONE);
    run(async {
        let folder = wal.path("walg_data/walg_archive_status");
        fs::create_dir_all(&folder).unwrap();
        // An empty marker is what WAL-G leaves; this one is of another life.
        fs::write(folder.join(SEGMENT), "").unwrap();
        push(&context, &wal.file(SEGMENT, &segment(1))).await.unwrap();
        assert_eq!(store.names(), [format!("wal_005/{SEGMENT}.lz4")]);
        fs::write(folder.join(SEGMENT), "17 1.000000000\n").unwrap();
        push(&context, &wal.file(SEGMENT, &segment(2))).await.unwrap();
        fetch(&context, SEGMENT, &wal.path("back")).await.unwrap();
        assert_eq!(fs::read(wal.path("back")).unwrap(), segment(2));
    });
}

#[test]
fn a_segment_of_the_wrong_size_is_an_error_not_a_file() {
    let wal = Wal::new();
    let (store, context) = in_memory(ONE);
    run(async {
        let key = Key::parse(format!("wal_005/{SEGMENT}.lz4")).unwrap();
        store.put_bytes(&key, segment(1)[..1000].to_vec(), Put::default()).await.unwrap();
        let error = fetch(&context, SEGMENT, &wal.path("back")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(!wal.path("back").exists());
    });
}

#[test]
fn prefetched_segments_are_used_if_they_are_whole() {
    let wal = Wal::new();
    let (store, context) = in_memory(ONE);
    let next = |number: u8| format!("0000000100000000000000{number:02X}");
    run(async {
        for number in 8..12 {
            let key = Key::parse(format!("wal_005/{}.lz4", next(number))).unwrap();
            store.put_bytes(&key, segment(number), Put::default()).await.unwrap();
        }
        let destination = wal.path("RECOVERYXLOG");
        prefetch(&context, SEGMENT, &destination).await.unwrap();
        let ready = |number| wal.path(".wal-g/prefetch").join(next(number));
        assert!((8..12).all(|number| ready(number).exists()) && !ready(12).exists());
        assert_eq!(fs::read_dir(wal.path(".wal-g/prefetch/running")).unwrap().count(), 0);
        fs::write(ready(9), "half").unwrap();
        for number in 8..10 {
            fetch(&context, &next(number), &destination).await.unwrap();
            assert_eq!(fs::read(&destination).unwrap(), segment(number));
            assert!(!ready(number).exists());
            fs::remove_file(&destination).unwrap();
        }
        prefetch(&context, &next(11), &destination).await.unwrap();
        assert!(!ready(10).exists() && ready(11).exists());
    });
}

#[test]
fn names_that_are_paths_are_refused() {
    let (_, context) = in_memory(ONE);
    run(async {
        for name in ["", "../x", "a/b", ".x"] {
            let error = fetch(&context, name, Path::new("/nonexistent/x")).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{name:?}");
        }
    });
}
