//! `backup-push`: a base backup of a running cluster.

use std::path::PathBuf;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// What a backup should be like.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The data directory; must be the server's.
    pub directory: PathBuf,
    /// Retention never removes it.
    pub permanent: bool,
    /// Check the checksum of every page.
    pub verify: bool,
    /// Keep every corrupt block number, not only the first ten of a file.
    pub store_all_corrupt: bool,
    /// How files are grouped into parts.
    pub composer: Composer,
    /// Do not write files_metadata.json.
    pub without_files_metadata: bool,
    /// A JSON document to store with the backup.
    pub user_data: Option<String>,
}

/// How files are grouped into parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Composer {
    /// In the order of the walk.
    #[default]
    Regular,
    /// By how often they are updated.
    Rating,
    /// By database.
    Database,
}

/// Takes a backup and says its name.
pub async fn push(context: &Context, options: PushOptions) -> Result<String> {
    let _ = context;
    Err(Error::new(Kind::Unsupported, format!("{}: not yet", options.directory.display())))
}
