//! What a backup records of its files, collected while parts are packed and
//! written as `files_metadata.json` at the end. Nothing of it is held in memory.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, FixedOffset, Local};
use serde::{Deserialize, Serialize};

use super::spill::{Items, Spill};
use crate::error::{Error, Result};
use crate::layout::{CorruptBlocks, FileRecord, FilesWriter};

/// One line of `Files`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileLine {
    /// The name in the tar.
    pub name: String,
    /// Time of last change: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Corrupt blocks: how many, and which (the first of them).
    pub corrupt: Option<(u64, Vec<u32>)>,
    /// Rows inserted, updated and deleted, where the composer asked for it.
    pub updates: u64,
}

/// One line of `TarFileSets`.
#[derive(Debug, Serialize, Deserialize)]
enum SetLine {
    Part(String),
    Entry(String),
}

/// The catalogue of a running backup; shared by the threads that pack.
#[derive(Debug)]
pub(super) struct Catalog {
    folder: PathBuf,
    lists: Mutex<Lists>,
}

#[derive(Debug)]
struct Lists {
    files: Spill<FileLine>,
    sets: Spill<SetLine>,
}

impl Catalog {
    /// An empty catalogue whose lists go to `folder`.
    pub(super) fn create(folder: PathBuf) -> Result<Self> {
        let lists = Lists { files: Spill::create(&folder)?, sets: Spill::create(&folder)? };
        Ok(Self { folder, lists: Mutex::new(lists) })
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a file, a directory or a link.
    pub(super) fn file(&self, line: &FileLine) -> Result<()> {
        self.lists().files.push(line)
    }

    /// The entries of a part that is being packed.
    pub(super) fn part(&self) -> Result<Spill<String>> {
        Spill::create(&self.folder)
    }

    /// Records a part, complete now, with its entries.
    pub(super) fn end_part(&self, name: &str, entries: Spill<String>) -> Result<()> {
        let mut entries = entries.read()?;
        let mut lists = self.lists();
        lists.sets.push(&SetLine::Part(name.to_owned()))?;
        while let Some(entry) = entries.next()? {
            lists.sets.push(&SetLine::Entry(entry))?;
        }
        Ok(())
    }

    /// The lists, to be written.
    pub(super) fn finish(self) -> Result<Finished> {
        let lists = self.lists.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Finished { files: lists.files.read()?, sets: lists.sets.read()? })
    }
}

/// The lists of a complete catalogue.
#[derive(Debug)]
pub(super) struct Finished {
    files: Items<FileLine>,
    sets: Items<SetLine>,
}

impl Finished {
    /// Writes the document; `databases` adds `DatabasesByNames`.
    pub(super) fn write<W: Write>(
        mut self,
        to: W,
        databases: impl FnOnce(&mut FilesWriter<W>) -> Result<()>,
    ) -> Result<()> {
        let mut document = FilesWriter::begin(to)?;
        while let Some(line) = self.files.next()? {
            document.file(&line.name, &record(&line)?)?;
        }
        while let Some(line) = self.sets.next()? {
            match line {
                SetLine::Part(name) => document.part(&name)?,
                SetLine::Entry(name) => document.entry(&name)?,
            }
        }
        databases(&mut document)?;
        document.finish()?;
        Ok(())
    }
}

fn record(line: &FileLine) -> Result<FileRecord> {
    Ok(FileRecord {
        is_incremented: false,
        is_skipped: false,
        mtime: local_time(line.mtime)?,
        corrupt: line
            .corrupt
            .as_ref()
            .map(|(count, blocks)| CorruptBlocks { count: *count, some: blocks.clone() }),
        updates: line.updates,
    })
}

/// WAL-G records times of files in the zone of the host.
fn local_time((seconds, nanoseconds): (i64, u32)) -> Result<DateTime<FixedOffset>> {
    DateTime::from_timestamp(seconds, nanoseconds)
        .map(|time| time.with_timezone(&Local).fixed_offset())
        .ok_or_else(|| {
            Error::new(
                crate::Kind::Corrupt,
                format!("a file was last changed {seconds} s after 1970"),
            )
        })
}
