//! `wal-fetch`: one WAL file out of the archive.

use std::path::Path;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// What became of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file is at its destination.
    Found,
    /// No used storage has it, under any codec. Exit 74.
    Missing,
}

/// Fetches `name` to `destination`, which must not exist.
pub async fn fetch(context: &Context, name: &str, destination: &Path) -> Result<Fetched> {
    let _ = (context, destination);
    Err(Error::new(Kind::Unsupported, format!("{name}: not yet")))
}
