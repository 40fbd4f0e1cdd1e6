//! `backup-fetch`: a base backup back into a directory.

use std::path::PathBuf;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Which backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest by modification time of its sentinel.
    Latest,
    /// The one of this name.
    Name(String),
    /// The only one with this user data (JSON).
    UserData(String),
}

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Which backup.
    pub backup: Selector,
    /// Where to; must be empty or absent.
    pub destination: PathBuf,
    /// Only files whose path matches this pattern.
    pub mask: Option<String>,
    /// A file with a tablespace specification that replaces the backup's own.
    pub restore_spec: Option<PathBuf>,
    /// New places of tablespaces: OID and directory.
    pub tablespace_map: Vec<(String, PathBuf)>,
}

/// Restores a backup and says its name.
pub async fn fetch(context: &Context, options: FetchOptions) -> Result<String> {
    let _ = context;
    Err(Error::new(Kind::Unsupported, format!("{}: not yet", options.destination.display())))
}
