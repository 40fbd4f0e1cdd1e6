//! `files_metadata.json`: one record for each file, which part holds it, and the
//! names of databases and tables.
//!
//! The document can exceed a gigabyte, so it is written and read as a stream:
//! neither side ever holds a list.

mod reader;
mod writer;

use chrono::{DateTime, FixedOffset};

pub use reader::{FilesReader, FilesVisitor};
pub use writer::FilesWriter;

/// What a backup knows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// The payload is an increment on the parent's file.
    pub is_incremented: bool,
    /// There is no payload: the parent's file is unchanged.
    pub is_skipped: bool,
    /// The file's modification time, to the nanosecond, in the zone of the host.
    pub mtime: DateTime<FixedOffset>,
    /// Pages with a wrong checksum.
    pub corrupt: Option<CorruptBlocks>,
    /// How many rows of the relation were written so far; 0 if nobody asked.
    pub updates: u64,
}

impl FileRecord {
    /// The record of a file that is stored whole.
    pub fn full(mtime: DateTime<FixedOffset>) -> Self {
        Self { is_incremented: false, is_skipped: false, mtime, corrupt: None, updates: 0 }
    }
}

/// Pages of a file whose checksum is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorruptBlocks {
    /// How many there are.
    pub count: u64,
    /// Block numbers, ascending, within the file: all or the first ten.
    pub some: Vec<u32>,
}

#[cfg(test)]
mod tests;
