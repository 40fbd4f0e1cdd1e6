//! The formats: names, documents, archives and increments, as WAL-G writes them.

pub mod lsn;
pub mod segment;

pub use lsn::Lsn;
pub use segment::{Segment, WalFile};

use crate::error::{Error, Kind};

/// The error for an argument that cannot be used.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}
