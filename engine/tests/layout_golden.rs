//! The golden storage trees: every document and every archive that WAL-G wrote is
//! read, and written again as the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support_golden;

use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use support_golden::{files, open, roots};
use walport_engine::layout::gojson::to_vec_v1;
use walport_engine::layout::tar::{TarReader, TarWriter};
use walport_engine::layout::{
    BackupName, FileRecord, FilesReader, FilesVisitor, FilesWriter, Metadata, Segment, Sentinel,
    WalFile, WalMetadata, names,
};
use walport_engine::storage::Key;
use walport_engine::{Kind, Result};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn sentinels_are_written_again_as_the_same_bytes() {
    let mut deltas = 0;
    for path in files("_backup_stop_sentinel.json", 12) {
        let json = std::fs::read(&path).unwrap();
        let sentinel =
            Sentinel::parse(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text(&sentinel.to_json().unwrap()), text(&json), "{}", path.display());
        assert_eq!(sentinel.version, 2);
        deltas += usize::from(sentinel.is_delta());

        let name = names::backup_of_sentinel(&Key::foreign(path.to_str().unwrap())).unwrap();
        let start = Segment::parse(BackupName::parse(&name).unwrap().wal(), 16 << 20).unwrap();
        assert_eq!(Segment::of(1, sentinel.lsn.unwrap(), 16 << 20), start, "{name}");
        if let Some(delta) = sentinel.delta.filter(|delta| !delta.from.is_empty()) {
            let renamed = BackupName::full(start, 16 << 20).delta(&delta.from).unwrap();
            assert_eq!(renamed.to_string(), name);
        }
    }
    assert!(deltas >= 4, "{deltas} deltas");
}

#[test]
fn metadata_is_written_again_as_the_same_bytes() {
    for path in files("metadata.json", 23) {
        if !path.ends_with("metadata.json") {
            continue;
        }
        let json = std::fs::read(&path).unwrap();
        let metadata =
            Metadata::parse(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text(&metadata.to_json().unwrap()), text(&json), "{}", path.display());

        // The sentinel says the same, but for the mark, which is set later.
        let name = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let sentinel =
            path.parent().unwrap().with_file_name(format!("{name}{}", names::SENTINEL_SUFFIX));
        let of_sentinel =
            Metadata::of(&Sentinel::parse(&std::fs::read(sentinel).unwrap()).unwrap());
        assert_eq!(Metadata { is_permanent: metadata.is_permanent, ..of_sentinel }, metadata);
    }
}

#[test]
fn wal_metadata_is_written_again_as_the_same_bytes() {
    for path in files("", 2).into_iter().filter(|path| is_wal_metadata(path)) {
        let json = std::fs::read(&path).unwrap();
        assert_eq!(text(&WalMetadata::parse(&json).unwrap().to_json().unwrap()), text(&json));
    }
    assert!(files("", 2).iter().filter(|path| is_wal_metadata(path)).count() >= 2);
}

fn is_wal_metadata(path: &Path) -> bool {
    path.parent().unwrap().ends_with("wal_005") && path.extension().is_some_and(|end| end == "json")
}

/// Writes what it is told.
struct Again(Option<FilesWriter<Vec<u8>>>, [usize; 3]);

impl Again {
    fn writer(&mut self) -> &mut FilesWriter<Vec<u8>> {
        self.0.as_mut().unwrap()
    }
}

impl FilesVisitor for Again {
    fn file(&mut self, name: &str, record: &FileRecord) -> Result<()> {
        self.1[0] += 1;
        self.writer().file(name, record)
    }
    fn part(&mut self, part: &str) -> Result<()> {
        self.writer().part(part)
    }
    fn entry(&mut self, _: &str, name: &str) -> Result<()> {
        self.1[1] += 1;
        self.writer().entry(name)
    }
    fn database(&mut self, name: &str, oid: u32) -> Result<()> {
        self.writer().database(name, oid)
    }
    fn table(&mut self, _: &str, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        self.1[2] += 1;
        self.writer().table(name, oid, relfilenode)
    }
    fn subtable(&mut self, _: &str, _: &str, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        self.writer().subtable(name, oid, relfilenode)
    }
}

#[test]
fn files_metadata_is_written_again_as_the_same_bytes() {
    let mut total = [0; 3];
    for path in files("files_metadata.json", 9) {
        let json = std::fs::read(&path).unwrap();
        let mut again = Again(Some(FilesWriter::begin(Vec::new()).unwrap()), [0; 3]);
        FilesReader::new(&json[..])
            .visit(&mut again)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = again.0.take().unwrap().finish().unwrap();
        let same = written.iter().zip(&json).position(|(ours, theirs)| ours != theirs);
        assert_eq!((same, written.len()), (None, json.len()), "{}", path.display());
        (0..3).for_each(|at| total[at] += again.1[at]);
    }
    assert!(total.iter().all(|count| *count > 5000), "{total:?}");
}

#[test]
fn archives_are_written_again_as_the_same_bytes() {
    let (mut entries, mut unterminated) = (0, 0);
    for path in files("", 100).into_iter().filter(|path| is_part(path)) {
        let mut plain = Vec::new();
        open(&path).read_to_end(&mut plain).unwrap();
        let mut reader = TarReader::new(&plain[..]);
        let mut writer = TarWriter::new(Vec::with_capacity(plain.len()));
        while let Some(header) =
            reader.next().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        {
            writer.append(&header).unwrap();
            assert_eq!(io::copy(&mut reader, &mut writer).unwrap(), header.payload());
            assert!(header.is_file() || header.is_directory(), "{header:?}");
            entries += 1;
        }
        let remote = path.to_str().unwrap().contains("remote");
        let again = if reader.is_terminated() {
            writer.finish().unwrap()
        } else {
            assert!(remote, "{} has no end", path.display());
            unterminated += 1;
            let mut bare = writer.into_inner();
            // The last entry may have its padding or not.
            bare.resize(plain.len().min(bare.len().next_multiple_of(512)), 0);
            bare
        };
        let same = again.iter().zip(&plain).position(|(ours, theirs)| ours != theirs);
        assert_eq!((same, again.len()), (None, plain.len()), "{}", path.display());
    }
    assert!(
        entries > 2500 && unterminated >= 2,
        "{entries} entries, {unterminated} without an end"
    );
}

/// A part in a codec this test can read: those of the encrypted trees are not.
fn is_part(path: &Path) -> bool {
    let text = path.to_str().unwrap();
    let encrypted = text.contains("nacl/") || text.contains("openpgp/");
    path.parent().unwrap().ends_with("tar_partitions") && !encrypted
}

#[test]
fn a_part_cut_anywhere_is_never_taken_for_more_than_it_is() {
    let path = files("pg_control.tar.zst", 2)
        .into_iter()
        .find(|path| !path.to_str().unwrap().contains("remote"))
        .unwrap();
    let mut plain = Vec::new();
    open(&path).read_to_end(&mut plain).unwrap();
    let read = |bytes: &[u8]| -> Result<(usize, bool)> {
        let mut reader = TarReader::new(bytes);
        let mut payload = 0;
        while reader.next()?.is_some() {
            payload += io::copy(&mut reader, &mut io::sink())? as usize;
        }
        Ok((payload, reader.is_terminated()))
    };
    assert_eq!(read(&plain).unwrap(), (8192, true));
    let end = plain.len();
    for cut in 0..end {
        match read(&plain[..cut]) {
            Err(error) => assert!(
                error.kind() == Kind::Corrupt && cut > 0 && cut < end - 1024,
                "{cut}: {error}"
            ),
            Ok((payload, terminated)) => {
                assert!(cut == 0 || payload == 8192, "{cut}");
                assert!(!terminated, "{cut}");
            }
        }
    }
    // Zeros may follow, nothing else may.
    let mut longer = plain.clone();
    longer.resize(end + 10_000, 0);
    assert_eq!(read(&longer).unwrap(), (8192, true));
    for at in [end, end + 511, end + 9_999] {
        longer[at] = 1;
        assert_eq!(read(&longer).unwrap_err().kind(), Kind::Corrupt, "{at}");
        longer[at] = 0;
    }
}

#[test]
fn detailed_lists_hold_the_metadata_of_each_backup() {
    #[derive(Serialize)]
    struct Line<'a> {
        backup_name: &'a str,
        time: &'a str,
        wal_file_name: String,
        storage_name: &'a str,
        #[serde(flatten)]
        metadata: Metadata,
    }
    for path in files(".backuplistdetailjson.out", 8) {
        let listed = std::fs::read_to_string(&path).unwrap();
        let tree = path.to_str().unwrap().strip_suffix(".backuplistdetailjson.out").unwrap();
        let mut lines = Vec::new();
        let list: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        for line in &list {
            let name = line["backup_name"].as_str().unwrap();
            let document =
                std::fs::read(format!("{tree}/{}", names::metadata(names::BASE_BACKUPS, name)))
                    .unwrap();
            lines.push(Line {
                backup_name: name,
                time: line["time"].as_str().unwrap(),
                wal_file_name: names::wal_file_name(name),
                storage_name: "default",
                metadata: Metadata::parse(&document).unwrap(),
            });
        }
        assert_eq!(text(&to_vec_v1(&lines).unwrap()), listed.trim_end(), "{}", path.display());
    }
}

#[test]
fn every_object_has_the_name_we_would_give_it() {
    let mut seen = [0; 4];
    for root in roots() {
        for path in files("", 100).into_iter().filter(|path| path.starts_with(&root)) {
            let parts: Vec<_> =
                path.strip_prefix(&root).unwrap().to_str().unwrap().split('/').collect();
            let key = Key::parse(parts[1..].join("/")).unwrap();
            match parts[1..] {
                ["wal_005", name] => {
                    let stem = [".lz4", ".zst", ".br", ".lzma"]
                        .iter()
                        .find_map(|end| name.strip_suffix(end))
                        .unwrap_or(name);
                    let ext = name[stem.len()..].trim_start_matches('.');
                    assert_eq!(names::wal(stem, ext), key);
                    let kind = WalFile::classify(stem, 16 << 20);
                    assert_eq!(kind == WalFile::Other, is_wal_metadata(&path), "{name}");
                    seen[0] += 1;
                }
                [folder, name] => {
                    let backup =
                        names::backup_of_sentinel(&key).unwrap_or_else(|| panic!("{name}"));
                    assert_eq!(names::sentinel(&format!("{folder}/"), &backup), key);
                    seen[1] += 1;
                }
                [folder, backup, name] => {
                    let folder = format!("{folder}/");
                    let ours =
                        [names::metadata(&folder, backup), names::files_metadata(&folder, backup)];
                    assert!(ours.contains(&key), "{name}");
                    seen[2] += 1;
                }
                [folder, backup, _, name] => {
                    let folder = format!("{folder}/");
                    let ext = name.split_once(".tar.").unwrap().1;
                    let ours = if names::is_pg_control_tar(name) {
                        names::pg_control_tar(&folder, backup, ext)
                    } else if names::is_backup_label_tar(name) {
                        names::backup_label_tar(&folder, backup, ext)
                    } else {
                        names::part(&folder, backup, name[5..8].parse().unwrap(), ext)
                    };
                    assert_eq!(ours, key);
                    seen[3] += 1;
                }
                _ => {}
            }
        }
    }
    assert!(seen.iter().all(|count| *count >= 12), "{seen:?}");
}
