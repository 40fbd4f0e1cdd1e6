//! Memory of the streamed formats: what the process holds does not grow with the
//! document or the archive, nor with what their headers claim.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};

use walport_engine::layout::tar::{Header, TarReader, TarWriter};
use walport_engine::layout::{
    FileRecord, FilesReader, FilesVisitor, FilesWriter, Sentinel, gotime,
};
use walport_engine::{Kind, Result};

/// The most this process ever held in memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Repeats what `next` makes, without holding more than one piece.
struct Generated<F>(F, Vec<u8>, usize);

impl<F: FnMut(&mut Vec<u8>)> Read for Generated<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.2 == self.1.len() {
            self.1.clear();
            self.2 = 0;
            (self.0)(&mut self.1);
        }
        let count = (&self.1[self.2..]).read(room)?;
        self.2 += count;
        Ok(count)
    }
}

#[derive(Default)]
struct Count(u64, u64);

impl FilesVisitor for Count {
    fn file(&mut self, _: &str, _: &FileRecord) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
    fn entry(&mut self, _: &str, _: &str) -> Result<()> {
        self.1 += 1;
        Ok(())
    }
}

const FILES: u64 = 100_000;

/// All in one test, since the peak is that of the whole process.
#[test]
fn memory_does_not_grow_with_the_data() {
    let before = peak();

    // 17 MB of files and 8 MB of entries, in the order that WAL-G does not write.
    let mut at = 0;
    let document = Generated(
        |piece: &mut Vec<u8>| {
            match at {
                0 => piece.extend(br#"{"TarFileSets":{"part_001.tar.lz4":["#),
                1..FILES => write!(piece, "\"/base/1/{at:060}\",").unwrap(),
                FILES => piece.extend(br#""/"]},"Files":{"#),
                _ if at < 2 * FILES => write!(
                    piece,
                    r#""/base/1/{at:060}":{{"IsIncremented":false,"IsSkipped":false,"MTime":"2026-11-23T09:08:37.99334666Z","UpdatesCount":0}},"#
                )
                .unwrap(),
                _ if at == 2 * FILES => piece.extend(br#""/":null}}"#),
                _ => {}
            }
            at += 1;
        },
        Vec::new(),
        0,
    );
    let mut count = Count::default();
    FilesReader::new(document).visit(&mut count).unwrap();
    assert_eq!((count.0, count.1), (FILES, FILES));

    let mut writer = FilesWriter::begin(io::sink()).unwrap();
    let record = FileRecord::full(gotime::zero().fixed_offset());
    for number in 0..FILES {
        writer.file(format!("/base/1/{number}"), &record).unwrap();
    }
    writer.finish().unwrap();

    // An archive with one file of 1 GiB, written and read.
    let mut writer = TarWriter::new(io::sink());
    writer.append(&Header::file("/a", 1 << 30, 0o600)).unwrap();
    writer.fill().unwrap();
    writer.finish().unwrap();
    let mut block = TarWriter::new(Vec::new());
    block.append(&Header::file("/a", 1 << 30, 0o600)).unwrap();
    let archive = block.into_inner();
    let mut reader = TarReader::new(archive.chain(io::repeat(0).take((1 << 30) + 1024)));
    assert_eq!(reader.next().unwrap().unwrap().size, 1 << 30);
    assert_eq!(reader.next().unwrap(), None);

    // Headers that claim what is not there cost nothing.
    for size in [1 << 40, i64::MAX.cast_unsigned()] {
        let mut block = TarWriter::new(Vec::new());
        block.append(&Header::file("/a", size, 0o600)).unwrap();
        let claimed = block.into_inner();
        let mut reader = TarReader::new(&claimed[..]);
        assert_eq!(reader.next().unwrap().unwrap().size, size);
        assert_eq!(reader.next().unwrap_err().kind(), Kind::Corrupt);
    }
    // A name without an end is cut off.
    let endless = b"{\"Files\":{\"".chain(io::repeat(b'x'));
    assert_eq!(
        FilesReader::new(endless).visit(&mut Count::default()).unwrap_err().kind(),
        Kind::Corrupt
    );

    let grown = peak().saturating_sub(before);
    assert!(grown < 8 << 20, "the peak grew by {grown} bytes");
}

/// The threads of the engine have small stacks.
#[test]
fn deep_nesting_fits_a_small_stack() {
    let check = || {
        for depth in [60, 128, 129, 10_000] {
            let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            for field in ["UserData", "Other"] {
                let read = Sentinel::parse(format!("{{\"{field}\":{nested}}}").as_bytes());
                if let Ok(sentinel) = &read {
                    sentinel.to_json().unwrap();
                }
                assert_eq!(read.is_ok(), depth <= 128, "{depth}");
            }
            let mut visitor = Count::default();
            assert!(
                FilesReader::new(format!("{{\"Other\":{nested}}}").as_bytes())
                    .visit(&mut visitor)
                    .is_ok()
            );
        }
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(check).unwrap();
    thread.join().unwrap();
}
