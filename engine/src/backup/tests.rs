//! Packing and unpacking over directories that change meanwhile.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::catalog::Catalog;
use super::compose::Source;
use super::owners::Owners;
use super::pace::Pace;
use super::pack::Job;
use super::unpack::{Target, unpack};
use super::walk::Walk;
use crate::layout::{FileRecord, FilesReader, FilesVisitor};
use crate::progress::Progress;

fn job(root: &Path, threshold: u64) -> Job {
    Job {
        root: root.to_owned(),
        source: Mutex::new(Source::Regular(Walk::new(root))),
        threshold,
        catalog: Some(Catalog::create(std::env::temp_dir()).unwrap()),
        verify: None,
        pace: Pace::new(None),
        owners: Owners::read(),
        progress: Progress::new(),
        payload: AtomicI64::new(0),
        corrupt: AtomicU64::new(0),
    }
}

/// The parts of a whole backup.
fn pack(job: &Job) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some(first) = job.first_of_part().unwrap() {
        let mut part = Vec::new();
        job.pack(&format!("part_{}", parts.len()), first, &mut part).unwrap();
        parts.push(part);
    }
    parts
}

#[derive(Default)]
struct Listed {
    files: Vec<String>,
    parts: BTreeMap<String, Vec<String>>,
}

impl FilesVisitor for Listed {
    fn file(&mut self, name: &str, _: &FileRecord) -> crate::Result<()> {
        self.files.push(name.to_owned());
        Ok(())
    }

    fn entry(&mut self, part: &str, name: &str) -> crate::Result<()> {
        self.parts.entry(part.to_owned()).or_default().push(name.to_owned());
        Ok(())
    }
}

fn listed(catalog: Catalog) -> Listed {
    let mut document = Vec::new();
    catalog.finish().unwrap().write(&mut document, |_| Ok(())).unwrap();
    let mut listed = Listed::default();
    FilesReader::new(document.as_slice()).visit(&mut listed).unwrap();
    listed
}

fn restore(parts: &[Vec<u8>]) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let target = Target::new(to.path().to_owned(), Vec::new(), None, false, true);
    for part in parts {
        unpack(&mut part.as_slice(), &target, &Progress::new()).unwrap();
    }
    to
}

#[test]
fn what_is_packed_is_unpacked_in_parts_of_the_threshold() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("base/5")).unwrap();
    for number in 0..20 {
        fs::write(from.path().join(format!("base/5/{number}")), vec![number; 1000]).unwrap();
    }
    fs::write(from.path().join("base/5/empty"), "").unwrap();
    let job = job(from.path(), 4000);
    let parts = pack(&job);
    // A part ends after the file that makes it larger than the threshold.
    assert_eq!(parts.len(), 5);
    assert_eq!(job.payload.load(Ordering::Relaxed), 20_000);
    let to = restore(&parts);
    for number in 0..20 {
        assert_eq!(
            fs::read(to.path().join(format!("base/5/{number}"))).unwrap(),
            vec![number; 1000]
        );
    }
    assert_eq!(fs::read(to.path().join("base/5/empty")).unwrap(), b"");
    let listed = listed(job.catalog.unwrap());
    assert_eq!(listed.files.len(), 24);
    assert_eq!(listed.parts.len(), 5);
    assert_eq!(listed.parts.values().map(Vec::len).sum::<usize>(), 24);
}

#[test]
fn files_that_grow_shrink_or_vanish_keep_the_archive_whole() {
    let from = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        fs::write(from.path().join(name), vec![b'x'; 100_000]).unwrap();
    }
    let job = job(from.path(), u64::MAX);
    // The walk has seen all sizes; the files change before they are opened.
    let mut entries = Vec::new();
    while let Some(entry) = job.source.lock().unwrap().next().unwrap() {
        let super::compose::Item::Entry(entry) = entry else { panic!("a break") };
        entries.push(entry);
    }
    fs::write(from.path().join("a"), vec![b'y'; 200_000]).unwrap();
    fs::write(from.path().join("b"), vec![b'z'; 50_000]).unwrap();
    fs::remove_file(from.path().join("c")).unwrap();
    let mut parts = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let mut part = Vec::new();
        job.pack(&format!("part_{number}"), entry, &mut part).unwrap();
        parts.push(part);
    }
    let to = restore(&parts);
    assert_eq!(fs::read(to.path().join("a")).unwrap(), vec![b'y'; 100_000]);
    let shrunk = fs::read(to.path().join("b")).unwrap();
    assert_eq!(shrunk.len(), 100_000);
    assert!(shrunk[..50_000].iter().all(|byte| *byte == b'z'));
    assert!(shrunk[50_000..].iter().all(|byte| *byte == 0));
    assert!(!to.path().join("c").exists());
    assert_eq!(fs::read(to.path().join("d")).unwrap(), vec![b'x'; 100_000]);
    assert_eq!(listed(job.catalog.unwrap()).files, ["/", "/a", "/b", "/d"]);
}

#[test]
fn an_entry_that_leads_out_of_the_data_directory_is_refused() {
    let to = tempfile::tempdir().unwrap();
    let target = Target::new(to.path().join("data"), Vec::new(), None, false, true);
    for bad in ["/../x", "a/../../x", "..", "/base/../../x"] {
        assert!(target.path(bad).is_err(), "{bad}");
    }
    assert_eq!(target.path("/base/5/1").unwrap(), to.path().join("data/base/5/1"));
    assert_eq!(target.path("/").unwrap(), to.path().join("data/"));
}

#[test]
fn a_mask_chooses_files_and_keeps_what_is_always_needed() {
    let mask = Some(super::unpack::mask("base/*/1259*").unwrap());
    let target = Target::new("/data".into(), Vec::new(), mask, true, true);
    assert!(target.wants("/base/5/1259") && target.wants("/base/5/1259_fsm"));
    assert!(
        !target.wants("/base/5/x/1259")
            && !target.wants("/global/1259")
            && !target.wants("tablespace_map")
    );
    assert!(target.wants("backup_label") && target.wants("/global/pg_control"));
}

#[test]
fn a_truncated_part_is_an_error() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a"), vec![1; 5000]).unwrap();
    let parts = pack(&job(from.path(), u64::MAX));
    let to = tempfile::tempdir().unwrap();
    let target = Target::new(to.path().to_owned(), Vec::new(), None, false, true);
    for length in [100, 700, 3000, 1024 + 4999, parts[0].len() - 1024, parts[0].len() - 512] {
        let result = unpack(&mut &parts[0][..length], &target, &Progress::new());
        assert!(result.is_err(), "{length} bytes");
    }
}
