//! The formats fed with golden bytes that were changed at random: whatever comes
//! in, what comes out is a value or an error of kind Corrupt or Invalid, never a
//! panic, and never more than the input can hold. The seed is printed; set
//! `WALPORT_SEED` to run the same changes again.
//!
//! The same entry points are under `fuzz/` for a fuzzer that runs longer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support_golden;

use std::io::{self, Read};

use support_golden::{files, open};
use walport_engine::layout::tar::TarReader;
use walport_engine::layout::{
    BackupName, FileRecord, FilesReader, FilesVisitor, Lsn, Metadata, Segment, Sentinel,
    TablespaceSpec, WalFile, WalMetadata, gotime, names,
};
use walport_engine::storage::Key;
use walport_engine::{Error, Kind, Result};

fn random(of: &str) -> fastrand::Rng {
    let seed = std::env::var("WALPORT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{of}: WALPORT_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Changes some bytes: overwrites, cuts out, doubles, or puts in what the formats
/// know.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const WORDS: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"-1",
        b"18446744073709551616",
        b"1e999",
        b"\\ud800",
        b"\xff",
        b"\0",
        b"9999-99-99T",
        b"_D_",
        b"base_",
        b"FFFFFFFF",
        b"/",
        b"ustar\0",
        b"7777777",
        b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
    ];
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        let to = (at + random.usize(1..40)).min(bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let word = WORDS[random.usize(..WORDS.len())];
                let end = if random.bool() { (at + word.len()).min(bytes.len()) } else { at };
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    if random.u8(..8) == 0 {
        bytes.truncate(random.usize(..=bytes.len()));
    }
}

#[track_caller]
fn sound<T>(result: Result<T>) -> Option<T> {
    result
        .map_err(|error| {
            assert!(matches!(error.kind(), Kind::Corrupt | Kind::Invalid), "{error:?}");
        })
        .ok()
}

/// Runs `check` on changed copies of what the files hold.
fn rounds(of: &str, inputs: &[Vec<u8>], count: usize, mut check: impl FnMut(&[u8]) -> bool) {
    let mut random = random(of);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..count {
        let mut bytes = inputs[random.usize(..inputs.len())].clone();
        mutate(&mut random, &mut bytes);
        *(if check(&bytes) { &mut good } else { &mut bad }) += 1;
    }
    // Both ways must have been taken, or the changes are too weak or too strong.
    assert!(good > 0 && bad > 0, "{of}: {good} good, {bad} bad");
}

fn contents(suffix: &str, least: usize) -> Vec<Vec<u8>> {
    files(suffix, least).iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn sentinels_and_specs() {
    rounds("sentinel", &contents("_backup_stop_sentinel.json", 12), 4000, |bytes| {
        let Some(read) = sound(Sentinel::parse(bytes)) else { return false };
        // What was read can be written, and means the same then.
        if read.spec.as_ref().is_none_or(|spec| !spec.base_prefix.is_empty()) {
            let json = read.to_json().unwrap();
            assert_eq!(Sentinel::parse(&json).unwrap().to_json().unwrap(), json);
        }
        true
    });
    let specs: Vec<_> = contents("_backup_stop_sentinel.json", 12)
        .iter()
        .filter_map(|json| Sentinel::parse(json).unwrap().spec)
        .map(|spec| spec.to_json().unwrap())
        .collect();
    rounds("spec", &specs, 2000, |bytes| sound(TablespaceSpec::parse(bytes)).is_some());
}

#[test]
fn metadata() {
    rounds("metadata", &contents("/metadata.json", 12), 4000, |bytes| {
        sound(Metadata::parse(bytes)).is_some_and(|read| {
            let json = read.to_json().unwrap();
            assert_eq!(Metadata::parse(&json).unwrap().to_json().unwrap(), json);
            true
        })
    });
    let wal: Vec<_> = files(".json", 12)
        .iter()
        .filter(|path| path.parent().unwrap().ends_with("wal_005"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    rounds("WAL metadata", &wal, 1000, |bytes| sound(WalMetadata::parse(bytes)).is_some());
}

#[derive(Default)]
struct Count(usize);

impl Count {
    #[allow(clippy::unnecessary_wraps)] // the form of a visitor's answer
    fn one(&mut self) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

impl FilesVisitor for Count {
    fn file(&mut self, _: &str, _: &FileRecord) -> Result<()> {
        self.one()
    }
    fn entry(&mut self, _: &str, _: &str) -> Result<()> {
        self.one()
    }
    fn table(&mut self, _: &str, _: &str, _: u32, _: u32) -> Result<()> {
        self.one()
    }
}

#[test]
fn files_metadata() {
    // The beginning, the middle and the end of each: the whole is too long to be
    // read thousands of times.
    let short = |json: &Vec<u8>| {
        let text = std::str::from_utf8(json).unwrap();
        let cut = |mark: &str, length: usize| {
            text.find(mark).map_or("", |at| &text[at..(at + length).min(text.len())])
        };
        let files = &text[..=text[..3000].rfind("},").unwrap()];
        let sets = cut("\"TarFileSets\":", 400).rsplit_once(',').map_or("", |(sets, _)| sets);
        let tables =
            cut("\"DatabasesByNames\":", 900).rsplit_once("},").map_or("", |(tables, _)| tables);
        let mut short = format!("{files}}}");
        if !sets.is_empty() {
            short = format!("{short},{sets}]}},{tables}}}}}}}}}");
        }
        (short + "}").into_bytes()
    };
    let inputs: Vec<_> = contents("files_metadata.json", 9).iter().map(short).collect();
    for input in &inputs {
        let mut count = Count::default();
        FilesReader::new(&input[..]).visit(&mut count).unwrap();
        assert!(count.0 > 10);
    }
    rounds("files metadata", &inputs, 4000, |bytes| {
        let mut count = Count::default();
        let good = sound(FilesReader::new(bytes).visit(&mut count)).is_some();
        assert!(count.0 <= bytes.len());
        good
    });
}

#[test]
fn archives() {
    let inputs: Vec<_> = files(".tar.zst", 10)
        .iter()
        .filter(|path| {
            path.metadata().unwrap().len() < 2000 && !path.to_str().unwrap().contains("openpgp")
        })
        .map(|path| {
            let mut plain = Vec::new();
            open(path).read_to_end(&mut plain).unwrap();
            plain
        })
        .collect();
    assert!(inputs.len() >= 10);
    rounds("archive", &inputs, 4000, |bytes| {
        let mut reader = TarReader::new(bytes);
        let mut total = 0;
        let result = (|| {
            while reader.next()?.is_some() {
                total += io::copy(&mut reader, &mut io::sink()).map_err(Error::from)?;
            }
            Ok(())
        })();
        assert!(total <= bytes.len() as u64);
        sound(result).is_some()
    });
}

#[test]
fn all_names() {
    let inputs: Vec<_> = files("", 100)
        .iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let stem = name.split('.').next().unwrap();
            [name, stem, stem.split("_backup").next().unwrap()].map(|text| text.as_bytes().to_vec())
        })
        .collect();
    rounds("names", &inputs, 20_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let key = Key::foreign(text.clone());
        if let Some(backup) = names::backup_of_sentinel(&key) {
            assert!(text.starts_with(&backup) || text.contains('/'));
        }
        let _ = (
            names::is_wale_name(&text),
            names::is_pg_control_tar(&text),
            names::is_backup_label_tar(&text),
        );
        assert_eq!(names::wal_file_name(&text).len(), 24);
        if let Some(segment) = WalFile::classify(&text, 16 << 20).segment() {
            assert!(text.starts_with(&segment.name(16 << 20)));
        }
        let segment = sound(Segment::parse(&text, 16 << 20));
        let backup = sound(BackupName::parse(&text));
        assert!(segment.is_none_or(|segment| segment.name(16 << 20) == text));
        backup.is_some_and(|backup| backup.to_string() == text)
    });
}

#[test]
fn positions_and_times() {
    let lsns = ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"].map(|text| text.as_bytes().to_vec());
    rounds("LSN", &lsns, 5000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        sound(text.parse::<Lsn>()).is_some_and(|lsn| lsn.to_string().parse::<Lsn>().unwrap() == lsn)
    });
    let times =
        ["2026-11-23T09:08:43.461346404Z", "2026-11-23T12:08:43+03:00", "0001-01-01T00:00:00Z"];
    rounds("time", &times.map(|text| text.as_bytes().to_vec()), 5000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        sound(gotime::parse_rfc3339(&text)).is_some_and(|time| {
            gotime::parse_rfc3339(&gotime::rfc3339_nano(&time)).unwrap() == time
        })
    });
}
