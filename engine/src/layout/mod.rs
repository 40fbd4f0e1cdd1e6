//! The formats: names, documents, archives and increments, as WAL-G writes them.
//!
//! Nothing here opens a file or a connection. What is streamed goes through
//! `Read` and `Write`, so every format is tested from bytes alone.

pub mod files;
pub mod gojson;
pub mod gotime;
pub mod lsn;
pub mod metadata;
pub mod names;
pub mod segment;
pub mod sentinel;
pub mod tablespaces;
pub mod tar;
pub mod wal_metadata;

pub use files::{CorruptBlocks, FileRecord, FilesReader, FilesVisitor, FilesWriter};
pub use lsn::Lsn;
pub use metadata::Metadata;
pub use names::BackupName;
pub use segment::{Segment, WalFile};
pub use sentinel::{Delta, Sentinel};
pub use tablespaces::{Tablespace, TablespaceSpec};
pub use wal_metadata::WalMetadata;

use crate::error::{Error, Kind};

/// The error for bytes that are not what the format says.
fn corrupt(message: impl Into<String>) -> Error {
    Error::new(Kind::Corrupt, message)
}

/// The error for an argument that cannot be used.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}
