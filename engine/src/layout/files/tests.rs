//! Tests of `files_metadata.json`: forms, limits, and the way there and back.

#![allow(clippy::unwrap_used)]

use chrono::DateTime;
use proptest::prelude::*;

use super::super::gotime::parse_rfc3339;
use super::*;
use crate::{Kind, Result};

/// One call of a visitor.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    File(String, FileRecord),
    Part(String),
    Entry(String),
    Database(String, u32),
    Table(String, u32, u32),
    Subtable(String, u32, u32),
}

#[derive(Default)]
struct Record(Vec<Event>);

impl FilesVisitor for Record {
    fn file(&mut self, name: &str, record: &FileRecord) -> Result<()> {
        self.0.push(Event::File(name.into(), record.clone()));
        Ok(())
    }
    fn part(&mut self, part: &str) -> Result<()> {
        self.0.push(Event::Part(part.into()));
        Ok(())
    }
    fn entry(&mut self, part: &str, name: &str) -> Result<()> {
        assert!(self.0.iter().any(|event| *event == Event::Part(part.into())));
        self.0.push(Event::Entry(name.into()));
        Ok(())
    }
    fn database(&mut self, name: &str, oid: u32) -> Result<()> {
        self.0.push(Event::Database(name.into(), oid));
        Ok(())
    }
    fn table(&mut self, _: &str, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        self.0.push(Event::Table(name.into(), oid, relfilenode));
        Ok(())
    }
    fn subtable(&mut self, _: &str, _: &str, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        self.0.push(Event::Subtable(name.into(), oid, relfilenode));
        Ok(())
    }
}

fn read(json: &str) -> Result<Vec<Event>> {
    let mut record = Record::default();
    FilesReader::new(json.as_bytes()).visit(&mut record)?;
    Ok(record.0)
}

fn write(events: &[Event]) -> Result<String> {
    let mut writer = FilesWriter::begin(Vec::new())?;
    for event in events {
        match event {
            Event::File(name, record) => writer.file(name, record)?,
            Event::Part(name) => writer.part(name)?,
            Event::Entry(name) => writer.entry(name)?,
            Event::Database(name, oid) => writer.database(name, *oid)?,
            Event::Table(name, oid, node) => writer.table(name, *oid, *node)?,
            Event::Subtable(name, oid, node) => writer.subtable(name, *oid, *node)?,
        }
    }
    Ok(String::from_utf8(writer.finish()?).unwrap())
}

fn record(mtime: &str) -> FileRecord {
    FileRecord::full(parse_rfc3339(mtime).unwrap())
}

#[test]
fn the_document_is_as_wal_g_writes_it() {
    let corrupt = FileRecord {
        is_incremented: true,
        corrupt: Some(CorruptBlocks { count: 11, some: vec![1, 2] }),
        updates: 7,
        ..record("2026-11-23T12:08:43.461346404+03:00")
    };
    let none = FileRecord {
        is_skipped: true,
        corrupt: Some(CorruptBlocks::default()),
        ..record("2026-11-23T09:08:43Z")
    };
    let json = write(&[
        Event::File("/".into(), corrupt),
        Event::File("/a<&>\u{2028}\"é".into(), none),
        Event::Part("part_001.tar.lz4".into()),
        Event::Entry("/".into()),
        Event::Entry("/a".into()),
        Event::Part(String::new()),
        Event::Part("backup_label.tar.lz4".into()),
        Event::Entry("tablespace_map".into()),
        Event::Database("a".into(), 1),
        Event::Database("b".into(), 2),
        Event::Table("public.x".into(), 3, 4),
        Event::Subtable("public.y".into(), 5, 6),
        Event::Subtable("public.z".into(), 7, 8),
        Event::Table("public.w".into(), 9, 10),
        Event::Database("c".into(), 11),
    ]);
    let expected = concat!(
        r#"{"Files":{"/":{"IsIncremented":true,"IsSkipped":false,"MTime":"2026-11-23T12:08:43.461346404+03:00","#,
        r#""CorruptBlocks":{"CorruptBlocksCount":11,"SomeCorruptBlocks":[1,2]},"UpdatesCount":7},"#,
        "\"/a<&>\u{2028}\\\"é\":",
        r#"{"IsIncremented":false,"IsSkipped":true,"MTime":"2026-11-23T09:08:43Z","#,
        r#""CorruptBlocks":{"CorruptBlocksCount":0,"SomeCorruptBlocks":[]},"UpdatesCount":0}},"#,
        r#""TarFileSets":{"part_001.tar.lz4":["/","/a"],"":[],"backup_label.tar.lz4":["tablespace_map"]},"#,
        r#""DatabasesByNames":{"a":{"oid":1},"b":{"oid":2,"tables_new":{"public.x":{"oid":3,"relfilenode":4,"#,
        r#""subtables":{"public.y":{"oid":5,"relfilenode":6},"public.z":{"oid":7,"relfilenode":8}}},"#,
        r#""public.w":{"oid":9,"relfilenode":10}}},"c":{"oid":11}}}"#,
    );
    assert_eq!(json.unwrap(), expected);
    assert_eq!(write(&read(expected).unwrap()).unwrap(), expected);
}

#[test]
fn what_there_is_nothing_of_is_left_out() {
    assert_eq!(write(&[]).unwrap(), "{}");
    assert_eq!(write(&[Event::Part("p".into())]).unwrap(), r#"{"TarFileSets":{"p":[]}}"#);
    assert_eq!(
        write(&[Event::Database("d".into(), 1)]).unwrap(),
        r#"{"DatabasesByNames":{"d":{"oid":1}}}"#
    );
    for empty in [
        "{}",
        "null",
        r#"{"Files":null,"TarFileSets":{},"DatabasesByNames":null}"#,
        " {\"Other\":[{\"a\":[1,2]}]} ",
    ] {
        assert_eq!(read(empty).unwrap(), []);
    }
}

#[test]
fn the_order_of_writing_is_kept() {
    let file = Event::File("/".into(), record("2026-11-23T09:08:43Z"));
    let (part, entry) = (Event::Part("p".into()), Event::Entry("e".into()));
    let (database, table) = (Event::Database("d".into(), 1), Event::Table("t".into(), 1, 1));
    let subtable = Event::Subtable("s".into(), 1, 1);
    for wrong in [
        vec![part.clone(), file.clone()],
        vec![database.clone(), file.clone()],
        vec![database.clone(), part.clone()],
        vec![entry.clone()],
        vec![file.clone(), entry.clone()],
        vec![database.clone(), entry],
        vec![part, table.clone()],
        vec![database.clone(), subtable.clone()],
        vec![database.clone(), table, database, subtable],
    ] {
        assert_eq!(write(&wrong).unwrap_err().kind(), Kind::Internal, "{wrong:?}");
    }
}

#[test]
fn names_that_are_no_text_are_named_and_refused() {
    let mut writer = FilesWriter::begin(Vec::new()).unwrap();
    let record = record("2026-11-23T09:08:43Z");
    let errors = [
        writer.file(b"/base/\xff", &record).unwrap_err(),
        writer.part("p").and_then(|()| writer.entry(b"/\xfe")).unwrap_err(),
        writer.database(b"d\xc3", 1).unwrap_err(),
        writer.database("d", 1).and_then(|()| writer.table(b"t\x80", 1, 1)).unwrap_err(),
    ];
    for (error, name) in errors.iter().zip(["/base/\\xff", "/\\xfe", "d\\xc3", "t\\x80"]) {
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(name) && error.hint().is_some(), "{error}");
    }
    let late = DateTime::from_timestamp(253_402_300_800, 0).unwrap().fixed_offset();
    let mut writer = FilesWriter::begin(Vec::new()).unwrap();
    let error = writer.file("/a", &FileRecord::full(late)).unwrap_err();
    assert!(error.to_string().contains("/a") && error.hint().is_some(), "{error}");
}

#[test]
fn members_come_in_any_order_and_case() {
    let events = read(concat!(
        r#"{"databasesbynames":{"d":{"tables_new":{"t":{"subtables":{"s":{"relfilenode":1,"OID":2,"subtables":{"x":{}}}},"#,
        r#""relfilenode":3,"oid":4}},"x":{"y":[]},"oid":5}},"TARFILESETS":{"p":["e",null],"q":null},"#,
        r#""files":{"f":{"updatescount":1,"MTIME":"2026-11-23T09:08:43Z","mtime":null,"IsSkipped":true,"#,
        r#""isSKIPPED":false,"CorruptBlocks":{},"new":{}},"g":null}}"#
    ));
    let f = FileRecord {
        updates: 1,
        corrupt: Some(CorruptBlocks::default()),
        ..record("2026-11-23T09:08:43Z")
    };
    assert_eq!(
        events.unwrap(),
        [
            Event::Subtable("s".into(), 2, 1),
            Event::Table("t".into(), 4, 3),
            Event::Database("d".into(), 5),
            Event::Part("p".into()),
            Event::Entry("e".into()),
            Event::Entry(String::new()),
            Event::Part("q".into()),
            Event::File("f".into(), f),
            Event::File("g".into(), record("0001-01-01T00:00:00Z")),
        ]
    );
    // Without numbers, tables and databases are reported all the same.
    let bare = read(r#"{"DatabasesByNames":{"d":{"tables_new":{"t":{"oid":7}}}}}"#).unwrap();
    assert_eq!(bare, [Event::Table("t".into(), 7, 0), Event::Database("d".into(), 0)]);
}

#[test]
fn wrong_documents_are_corrupt_and_say_where() {
    for (json, word) in [
        ("", "ends early"),
        ("{", "ends early"),
        ("[]", "no '{'"),
        ("{}{}", "after the end"),
        (r#"{"Files":[]}"#, "no '{'"),
        (r#"{"Files":{"/a":{"MTime":"yesterday"}}}"#, "/a"),
        (r#"{"Files":{"/a":{"MTime":7}}}"#, "/a"),
        (r#"{"Files":{"/a":{"IsSkipped":1}}}"#, "/a"),
        (r#"{"Files":{"/a":{"UpdatesCount":-1}}}"#, "/a"),
        (r#"{"TarFileSets":{"p":"e"}}"#, "no '['"),
        (r#"{"TarFileSets":{"p":[1]}}"#, "no string"),
        (r#"{"DatabasesByNames":{"d":{"oid":4294967296}}}"#, "range"),
    ] {
        let error = read(json).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{json}");
        let text = error.to_string();
        assert!(text.contains("files_metadata.json") && text.contains(word), "{text}");
    }
    let blocks = format!("[{}1]", "1,".repeat(1 << 20));
    let json =
        format!("{{\"Files\":{{\"f\":{{\"CorruptBlocks\":{{\"SomeCorruptBlocks\":{blocks}}}}}}}}}");
    assert!(read(&json).unwrap_err().to_string().contains("more block numbers"));
}

#[test]
fn an_error_of_the_visitor_ends_the_reading() {
    struct Full;
    impl FilesVisitor for Full {
        fn file(&mut self, _: &str, _: &FileRecord) -> Result<()> {
            Err(crate::Error::new(Kind::Full, "no space"))
        }
    }
    let json = br#"{"Files":{"a":{},"b":nonsense"#;
    assert_eq!(FilesReader::new(&json[..]).visit(&mut Full).unwrap_err().kind(), Kind::Full);
}

fn records() -> impl Strategy<Value = FileRecord> {
    let blocks = (any::<u64>(), prop::collection::vec(any::<u32>(), 0..12))
        .prop_map(|(count, some)| CorruptBlocks { count, some });
    (
        0i64..253_402_200_000,
        0u32..1_000_000_000,
        -1439i32..1440,
        any::<(bool, bool, u64)>(),
        prop::option::of(blocks),
    )
        .prop_map(|(secs, nanos, minutes, (is_incremented, is_skipped, updates), corrupt)| {
            let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let mtime = DateTime::from_timestamp(secs, nanos).unwrap().with_timezone(&zone);
            FileRecord { is_incremented, is_skipped, mtime, corrupt, updates }
        })
}

fn documents() -> impl Strategy<Value = Vec<Event>> {
    let files = prop::collection::vec(
        (".{0,20}", records()).prop_map(|(name, record)| Event::File(name, record)),
        0..6,
    );
    let part = (".{0,9}", prop::collection::vec(".{0,9}", 0..4)).prop_map(|(name, entries)| {
        [vec![Event::Part(name)], entries.into_iter().map(Event::Entry).collect()].concat()
    });
    let subtables = prop::collection::vec(
        (".{0,5}", any::<u32>(), any::<u32>())
            .prop_map(|(name, oid, node)| Event::Subtable(name, oid, node)),
        0..3,
    );
    let table =
        (".{0,5}", any::<(u32, u32)>(), subtables).prop_map(|(name, (oid, node), subtables)| {
            [vec![Event::Table(name, oid, node)], subtables].concat()
        });
    let database = (".{0,5}", any::<u32>(), prop::collection::vec(table, 0..3)).prop_map(
        |(name, oid, tables)| [vec![Event::Database(name, oid)], tables.concat()].concat(),
    );
    (files, prop::collection::vec(part, 0..4), prop::collection::vec(database, 0..3))
        .prop_map(|(files, parts, databases)| [files, parts.concat(), databases.concat()].concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in documents()) {
        let json = write(&events).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
        prop_assert_eq!(read(&json).unwrap(), events);
    }

    #[test]
    fn any_bytes_are_handled(events in documents(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut json = write(&events).unwrap().into_bytes();
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        let mut record = Record::default();
        let _ = FilesReader::new(&json[..]).visit(&mut record);
        prop_assert!(record.0.len() <= json.len());
    }
}
