//! `wal-push`: one WAL file into the archive.

use std::path::Path;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Archives the file at `path`. Ok means: stored and durable.
pub async fn push(context: &Context, path: &Path) -> Result<()> {
    let _ = context;
    Err(Error::new(Kind::Unsupported, format!("{}: not yet", path.display())))
}
