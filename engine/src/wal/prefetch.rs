//! `wal-prefetch`: the next WAL files, before recovery asks for them.

use std::path::Path;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Fetches the files after `name` into the prefetch folder beside `destination`.
pub async fn prefetch(context: &Context, name: &str, destination: &Path) -> Result<()> {
    let _ = (context, destination);
    Err(Error::new(Kind::Unsupported, format!("{name}: not yet")))
}
