//! Writes `files_metadata.json` as a stream.

use std::io::{BufWriter, Write};

use serde::Serialize;

use super::super::{gojson, gotime, invalid};
use super::{CorruptBlocks, FileRecord};
use crate::error::{Error, Kind, Result};

/// Where in the document the writer is. Later ones cannot go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Start,
    Files,
    Parts,
    Entries,
    Databases,
    Tables,
    Subtables,
}

/// Writes the document, in this order: files, then parts with their entries,
/// then databases with their tables. A kind of which there is nothing is left
/// out. Names must be UTF-8: WAL-G gives up a backup with one that is not.
#[derive(Debug)]
pub struct FilesWriter<W: Write> {
    out: BufWriter<W>,
    at: At,
    /// Whether what is open has an item already.
    comma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    is_incremented: bool,
    is_skipped: bool,
    #[serde(rename = "MTime")]
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt_blocks: Option<Corrupt<'a>>,
    updates_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Corrupt<'a> {
    corrupt_blocks_count: u64,
    some_corrupt_blocks: &'a [u32],
}

impl<'a> From<&'a CorruptBlocks> for Corrupt<'a> {
    fn from(blocks: &'a CorruptBlocks) -> Self {
        Self { corrupt_blocks_count: blocks.count, some_corrupt_blocks: &blocks.some }
    }
}

impl<W: Write> FilesWriter<W> {
    /// Begins the document.
    pub fn begin(out: W) -> Result<Self> {
        let mut writer = Self { out: BufWriter::new(out), at: At::Start, comma: false };
        writer.put(b"{")?;
        Ok(writer)
    }

    /// Adds the record of the tar entry `name`.
    pub fn file(&mut self, name: impl AsRef<[u8]>, record: &FileRecord) -> Result<()> {
        let name = text(
            name.as_ref(),
            "file",
            "Rename the file, or set WALG_WITHOUT_FILES_METADATA=true for a backup without that document.",
        )?;
        if !gotime::is_representable(&record.mtime) {
            return Err(invalid(format!(
                "the modification time of file {name:?} is not within the years 0 to 9999"
            ))
            .with_hint("Set the time of that file with touch, then run the backup again."));
        }
        match self.at {
            At::Start => self.open(At::Files, b"\"Files\":{")?,
            At::Files => {}
            _ => return Err(self.late("file", name)),
        }
        let record = Record {
            is_incremented: record.is_incremented,
            is_skipped: record.is_skipped,
            mtime: gotime::rfc3339_nano(&record.mtime),
            corrupt_blocks: record.corrupt.as_ref().map(Corrupt::from),
            updates_count: record.updates,
        };
        self.item(name)?;
        self.put(&gojson::to_vec_v2(&record)?)
    }

    /// Begins the list of the part `name`, which includes the codec's extension.
    pub fn part(&mut self, name: &str) -> Result<()> {
        if self.at > At::Entries {
            return Err(self.late("part", name));
        }
        if self.at < At::Parts {
            self.climb(At::Start)?;
            self.open(At::Parts, b"\"TarFileSets\":{")?;
        }
        self.climb(At::Parts)?;
        self.item(name)?;
        self.put(b"[")?;
        self.enter(At::Entries);
        Ok(())
    }

    /// Adds the tar entry `name` to the part begun last.
    pub fn entry(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        let name = text(
            name.as_ref(),
            "file",
            "Rename the file, or set WALG_WITHOUT_FILES_METADATA=true for a backup without that document.",
        )?;
        if self.at != At::Entries {
            return Err(self.late("entry", name));
        }
        self.comma()?;
        self.put(&gojson::to_vec_v2(name)?)
    }

    /// Begins the database `name`.
    pub fn database(&mut self, name: impl AsRef<[u8]>, oid: u32) -> Result<()> {
        let name = text(name.as_ref(), "database", PARTIAL)?;
        if self.at < At::Databases {
            self.climb(At::Start)?;
            self.open(At::Databases, b"\"DatabasesByNames\":{")?;
        } else {
            self.climb(At::Databases)?;
        }
        self.item(name)?;
        self.put(format!("{{\"oid\":{oid}").as_bytes())?;
        self.at = At::Tables;
        self.comma = false;
        Ok(())
    }

    /// Adds the table `name` (`schema.table`) to the database begun last.
    pub fn table(&mut self, name: impl AsRef<[u8]>, oid: u32, relfilenode: u32) -> Result<()> {
        let name = text(name.as_ref(), "table", PARTIAL)?;
        if self.at < At::Tables {
            return Err(self.late("table", name));
        }
        self.climb(At::Tables)?;
        if !self.comma {
            self.put(b",\"tables_new\":{")?;
        }
        self.relation(name, oid, relfilenode)?;
        self.at = At::Subtables;
        self.comma = false;
        Ok(())
    }

    /// Adds the descendant `name` (`schema.table`) to the table added last.
    pub fn subtable(&mut self, name: impl AsRef<[u8]>, oid: u32, relfilenode: u32) -> Result<()> {
        let name = text(name.as_ref(), "table", PARTIAL)?;
        if self.at != At::Subtables {
            return Err(self.late("subtable", name));
        }
        if !self.comma {
            self.put(b",\"subtables\":{")?;
        }
        self.relation(name, oid, relfilenode)?;
        self.put(b"}")
    }

    /// Ends the document, and gives back what it was written to, flushed.
    pub fn finish(mut self) -> Result<W> {
        self.climb(At::Start)?;
        self.put(b"}")?;
        self.out.flush().map_err(failed)?;
        self.out.into_inner().map_err(|error| failed(error.into_error()))
    }

    fn relation(&mut self, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        self.item(name)?;
        self.put(format!("{{\"oid\":{oid},\"relfilenode\":{relfilenode}").as_bytes())
    }

    /// Closes what is open deeper than `to`, or is another kind's.
    fn climb(&mut self, to: At) -> Result<()> {
        while self.at > to {
            let (closing, outer): (&[u8], At) = match self.at {
                At::Start => break,
                At::Files | At::Parts | At::Databases => (b"}", At::Start),
                At::Entries => (b"]", At::Parts),
                At::Tables => (if self.comma { b"}}" } else { b"}" }, At::Databases),
                At::Subtables => (if self.comma { b"}}" } else { b"}" }, At::Tables),
            };
            self.put(closing)?;
            self.enter(outer);
            // What contained it has at least this item.
            self.comma = true;
        }
        Ok(())
    }

    fn open(&mut self, at: At, member: &[u8]) -> Result<()> {
        self.comma()?;
        self.put(member)?;
        self.enter(at);
        Ok(())
    }

    fn enter(&mut self, at: At) {
        self.at = at;
        self.comma = false;
    }

    fn item(&mut self, name: &str) -> Result<()> {
        self.comma()?;
        self.put(&gojson::to_vec_v2(name)?)?;
        self.put(b":")
    }

    fn comma(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.comma, true) { self.put(b",") } else { Ok(()) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed)
    }

    fn late(&self, what: &str, name: &str) -> Error {
        Error::new(
            Kind::Internal,
            format!("files_metadata.json: {what} {name:?} cannot stand at {:?}", self.at),
        )
    }
}

const PARTIAL: &str = "Rename it, or set WALG_DISABLE_PARTIAL_RESTORE=true for a backup without names of databases and tables.";

fn failed(error: std::io::Error) -> Error {
    Error::io("writing files_metadata.json", error)
}

fn text<'a>(name: &'a [u8], what: &str, hint: &str) -> Result<&'a str> {
    std::str::from_utf8(name).map_err(|_| {
        invalid(format!(
            "the name of {what} \"{}\" is not UTF-8, so files_metadata.json cannot hold it",
            name.escape_ascii()
        ))
        .with_hint(hint)
    })
}
