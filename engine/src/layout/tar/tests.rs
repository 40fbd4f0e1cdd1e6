//! Tests of the tar formats: the way there and back, what is tolerated, what is
//! corruption. The bytes of headers are compared with Go's in `tests/layout_go.rs`.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::header::checksums;
use super::*;
use crate::Result;

fn write(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (header, payload) in entries {
        writer.append(header).unwrap();
        writer.write_all(payload).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: impl Read) -> Result<Vec<(Header, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(header) = reader.next()? {
        let mut payload = Vec::new();
        reader.read_to_end(&mut payload)?;
        entries.push((header, payload));
    }
    assert_eq!(reader.next()?, None, "the end stays the end");
    Ok(entries)
}

/// A block by hand: name, type flag, size field and payload.
fn raw(name: &str, flag: u8, size: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    let mut bytes = [&block[..], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn seal(block: &mut [u8; BLOCK]) {
    let (sum, _) = checksums(block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn pax(records: &[u8]) -> Vec<u8> {
    let file = raw("short", b'0', b"00000000003\0", b"abc");
    [raw("x", b'x', format!("{:011o}\0", records.len()).as_bytes(), records), file, vec![0; 1024]]
        .concat()
}

/// PAX records, each with its length before it.
fn records(texts: &[&str]) -> Vec<u8> {
    let with_length = |text: &&str| {
        let record = |length: usize| format!("{length} {text}\n");
        let length = (1..10_000).find(|length| record(*length).len() == *length).unwrap();
        record(length).into_bytes()
    };
    texts.iter().flat_map(with_length).collect()
}

fn fails(bytes: &[u8], word: &str) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Corrupt, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn a_plain_entry_is_as_wal_g_writes_it() {
    let header = Header {
        uid: 101,
        gid: 103,
        mtime: 1_795_424_923,
        ..Header::file("/base/1/112", 5, 0o600)
    };
    let header = Header { uname: "postgres".into(), gname: "postgres".into(), ..header };
    let bytes = write(&[(header, b"hello".to_vec())]);
    assert_eq!(bytes.len(), 512 + 512 + 1024);
    assert_eq!(&bytes[..12], b"/base/1/112\0");
    assert_eq!(&bytes[100..148], b"0000600\x000000145\x000000147\x0000000000005\x0015301001233\0");
    assert_eq!(&bytes[154..157], b"\0 0");
    assert_eq!(&bytes[257..274], b"ustar\x0000postgres\0");
    assert_eq!(&bytes[329..345], b"0000000\x000000000\0");
    assert!(bytes[517..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_writer_takes_exactly_the_payload() {
    let mut writer = TarWriter::new(Vec::new());
    writer.append(&Header::file("a", 3, 0o600)).unwrap();
    assert_eq!(writer.remaining(), 3);
    assert!(writer.write_all(b"four").is_err());
    writer.write_all(b"ab").unwrap();
    let error = writer.append(&Header::file("b", 0, 0o600)).unwrap_err();
    assert!(error.to_string().contains("lacks 1 bytes"), "{error}");
    writer.fill().unwrap();
    writer.append(&Header::directory("d", 0o700)).unwrap();
    assert!(writer.write_all(b"x").is_err());
    let entries = read(&writer.finish().unwrap()[..]).unwrap();
    assert_eq!(entries[0].1, b"ab\0");
    assert!(entries[1].0.is_directory());
}

#[test]
fn a_file_that_cannot_be_held_is_refused_by_name() {
    for header in [
        Header::file("a/", 0, 0o600),
        Header::file("a\0b", 0, 0o600),
        Header::file("a", u64::MAX, 0o600),
        Header::new("a", Kind::Other(b'Z'), 0o600),
        Header::file("a".repeat((1 << 20) + 1), 0, 0o600),
    ] {
        let error = TarWriter::new(io::sink()).append(&header).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Invalid, "{error}");
    }
}

#[test]
fn the_end_of_an_archive_may_be_missing_but_nothing_else() {
    let entries =
        [(Header::directory("/", 0o700), vec![]), (Header::file("/a", 700, 0o600), vec![7; 700])];
    let whole = write(&entries);
    let end = whole.len() - 1024;
    for sound in [whole.len(), end + 1000, end + 512, end + 1, end, end - 100, end - (1024 - 700)] {
        assert_eq!(read(&whole[..sound]).unwrap(), entries, "{sound}");
    }
    fails(&whole[..end - 325], "before the end of an entry");
    fails(&whole[..1024], "before the end of an entry");
    fails(&whole[..1000], "inside a header");
    assert!(read(&b""[..]).unwrap().is_empty());
    fails(&[&whole[..end], &[0; 512], &[1; 512]].concat(), "not zero");
    fails(&[&whole[..], b"\0\0x"].concat(), "not zero");
    assert_eq!(read(whole.chain(io::repeat(0).take(100_000))).unwrap(), entries);
}

#[test]
fn a_wrong_bit_in_a_header_is_noticed() {
    let whole = write(&[(Header::file("/a", 3, 0o600), b"abc".to_vec())]);
    for at in 0..512 {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x11;
        // The blanks around the checksum's digits are no part of it.
        if read(&wrong[..]).is_ok() {
            assert!((154..156).contains(&at), "{at}");
        }
    }
}

#[test]
fn extended_headers_describe_the_entry_after_them() {
    let long = "d/".repeat(150) + "é";
    let path = format!("path={long}");
    let described =
        records(&[&path, "size=3", "uid=77", "mtime=1234567.25", "uname=postgrés", "a=b"]);
    let (header, payload) = read(&pax(&described)[..]).unwrap().remove(0);
    assert_eq!((header.name_text().as_ref(), payload.as_slice()), (long.as_str(), &b"abc"[..]));
    assert_eq!((header.uid, header.mtime, header.uname.as_str()), (77, 1_234_567, "postgrés"));

    let link = "l".repeat(300);
    let gnu = [
        raw(
            "././@LongLink",
            b'L',
            b"00000000302\0",
            [link.as_bytes(), b"\0\0\0"].concat().as_slice(),
        ),
        raw("././@LongLink", b'K', b"00000000454\0", link.as_bytes()),
        raw("x", b'2', b"00000000000\0", b""),
    ];
    let (header, _) = read(&gnu.concat()[..]).unwrap().remove(0);
    assert_eq!(header.name, link.as_bytes()[..194]);
    assert_eq!(header.kind, Kind::Symlink { target: link.into_bytes() });

    // Settings for the whole archive are passed over, whatever their size.
    let global =
        [raw("g", b'g', b"00000000012\0", b"6 a=b\nxxxx"), raw("f", b'0', b"0", b"")].concat();
    assert_eq!(read(&global[..]).unwrap().len(), 1);
    // An empty value takes the record before it back.
    let (header, _) =
        read(&pax(&records(&["path=a", "path=", "size=99999", "size="]))[..]).unwrap().remove(0);
    assert_eq!((header.name_text().as_ref(), header.size), ("short", 3));
}

#[test]
fn extended_headers_that_lie_are_corrupt() {
    for (text, word) in [
        ("size=-1", "size"),
        ("size=é", "size"),
        ("uid=4294967296", "uid"),
        ("mtime=x", "mtime"),
        ("mtime=1.x", "mtime"),
        ("=a", "cannot be read"),
        ("a", "cannot be read"),
        ("path=\0a", "cannot be read"),
        ("GNU.sparse.major=1", "sparse"),
    ] {
        fails(&pax(&records(&[text])), word);
    }
    for record in [
        "9 path=a ",
        "99 path=a\n",
        "0 path=a\n",
        "9path=aa\n",
        "x path=a\n",
        "1 path=a\n",
        "-9 path=\n",
    ] {
        fails(&pax(record.as_bytes()), "cannot be read");
    }
    // The records claim more than there is, up to the end of the archive.
    fails(&pax(&records(&["size=1540"])), "before the end of an entry");
    fails(&raw("x", b'x', b"00000000000\0", b""), "is missing");
    fails(&raw("x", b'S', b"00000000000\0", b""), "sparse");
    // 2 MiB of records are refused before they are read.
    fails(&raw("x", b'x', b"00010000000\0", b""), "more than 1 MiB");
    fails(&raw("x", b'L', b"00010000000\0", b""), "more than 1 MiB");
}

#[test]
fn numbers_come_in_several_forms() {
    let size = |field: &[u8]| {
        // What follows is cut: only the claim is read.
        let bytes = raw("a", b'0', field, b"");
        TarReader::new(&bytes[..]).next().map(|header| header.unwrap().size)
    };
    for (field, value) in [
        (&b"00000000017\0"[..], 15),
        (b"         17 ", 15),
        (b"17\0\0\0\0\0\0\0\0\0\0", 15),
        (b"777777777777", 0o777_777_777_777),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", 0),
        (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 1 << 33),
        (b"\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", i64::MAX.cast_unsigned()),
    ] {
        assert_eq!(size(field).unwrap(), value, "{}", field.escape_ascii());
    }
    for field in [
        &b"00000000018\0"[..],
        b"1 7\0\0\0\0\0\0\0\0\0",
        b"-1\0\0\0\0\0\0\0\0\0\0",
        b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
        b"\x80\x01\0\0\0\0\0\0\0\0\0\0",
    ] {
        assert_eq!(
            size(field).unwrap_err().kind(),
            crate::Kind::Corrupt,
            "{}",
            field.escape_ascii()
        );
    }
}

#[test]
fn old_headers_are_read_too() {
    let mut v7 = raw("dir/", 0, b"", b"");
    let block: &mut [u8; BLOCK] = (&mut v7[..512]).try_into().unwrap();
    block[257..].fill(0);
    seal(block);
    let (header, _) = read(&v7[..]).unwrap().remove(0);
    assert!(header.is_directory() && header.name == b"dir/" && header.uname.is_empty());

    // A checksum over signed bytes, as some old programs summed.
    let mut signed = raw("\u{e9}", b'0', b"", b"");
    let block: &mut [u8; BLOCK] = (&mut signed[..512]).try_into().unwrap();
    let (_, sum) = checksums(block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(read(&signed[..]).unwrap().len(), 1);
}

#[test]
fn an_entry_that_is_not_read_is_passed_over() {
    let entries: Vec<_> = (0u8..20)
        .map(|number| (Header::file(format!("f{number}"), 999, 0o600), vec![number; 999]))
        .collect();
    let whole = write(&entries);
    let mut reader = TarReader::new(&whole[..]);
    for (header, payload) in &entries {
        assert_eq!(&reader.next().unwrap().unwrap(), header);
        let mut some = vec![0; usize::from(payload[0]) * 40];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(reader.remaining(), 999 - some.len() as u64);
    }
    assert_eq!(reader.next().unwrap(), None);
    assert!(reader.is_terminated());
}

#[test]
fn an_error_of_the_stream_is_not_an_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(crate::Error::new(crate::Kind::Unavailable, "gone").into())
        }
    }
    let whole = write(&[(Header::file("/a", 700, 0o600), vec![7; 700])]);
    for cut in [0, 100, 512, 600, 1300, 1536, 2048, whole.len()] {
        let error = read(whole[..cut].chain(Broken)).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Unavailable, "{cut}: {error}");
    }
}

/// Gives what it has in pieces of `1`, with interruptions.
struct Pieces<'a>(&'a [u8], usize, bool);

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        if self.2 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = self.1.min(room.len());
        self.0.read(&mut room[..count])
    }
}

prop_compose! {
    fn entries()(
        name in "/?[a-zé.]{1,8}(/[a-z]{0,60}){0,6}[a-z]", kind in 0..8, mode in 0u32..0o10000, uid: u32, gid in 0u32..100_000,
        uname in "[a-zé]{0,40}", mtime in prop_oneof![0i64..1 << 33, any::<i64>()], payload in prop::collection::vec(any::<u8>(), 0..1500),
        target in "[a-zé/]{0,120}"
    ) -> (Header, Vec<u8>) {
        let kind = match kind {
            0 => Kind::Directory,
            1 => Kind::Symlink { target: target.into_bytes() },
            2 => Kind::Fifo,
            _ => Kind::File,
        };
        let payload = if kind == Kind::File { payload } else { Vec::new() };
        let header = Header { uid, gid, gname: uname.clone(), uname, mtime, size: payload.len() as u64, ..Header::new(name, kind, mode) };
        (header, payload)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(entries(), 0..6), piece in 1usize..700) {
        let bytes = write(&entries);
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        prop_assert_eq!(&read(Pieces(&bytes, piece, false)).unwrap(), &entries);
    }

    #[test]
    fn any_bytes_are_handled(
        entries in prop::collection::vec(entries(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut bytes = write(&entries);
        for (at, byte, sealed) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if sealed {
                let block = at / BLOCK * BLOCK;
                seal((&mut bytes[block..block + BLOCK]).try_into().unwrap());
            }
        }
        if let Ok(read) = read(&bytes[..]) {
            let payload: usize = read.iter().map(|(_, payload)| payload.len()).sum();
            prop_assert!(payload <= bytes.len());
        }
    }
}
