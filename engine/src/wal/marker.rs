//! Markers of segments that were archived ahead of time.
//!
//! A push that sees other ready segments archives them too and leaves a marker
//! for each in `pg_wal/walg_data/walg_archive_status`, as WAL-G does. When
//! PostgreSQL asks for such a segment the marker is taken away and nothing is
//! sent. Ours record the file they stand for, so that a marker left by another
//! life of the data directory does not acknowledge a segment that was never
//! archived.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::archive;
use crate::context::Context;
use crate::error::{Error, Kind, Result};

const FOLDER: &str = "walg_data/walg_archive_status";

/// Where markers are: under `PGDATA`, else beside the file itself.
fn folder(context: &Context, path: &Path) -> Option<PathBuf> {
    let wal = match context.settings.text("PGDATA") {
        Some(data) => ["pg_wal", "pg_xlog"]
            .iter()
            .map(|wal| Path::new(data).join(wal))
            .find(|wal| wal.is_dir()),
        None => path.parent().map(Path::to_owned),
    };
    wal.map(|wal| wal.join(FOLDER))
}

/// The marker's name is the file's without its last extension, as in WAL-G.
/// Only whole segments are marked, since `X.partial` would mark `X`.
fn marker_of(context: &Context, path: &Path, name: &str) -> Option<PathBuf> {
    folder(context, path).filter(|_| !name.contains('.')).map(|folder| folder.join(name))
}

/// What a marker says of its file: size and time of last change.
fn identity(path: &Path) -> Result<String> {
    let meta = fs::metadata(path)
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    Ok(format!("{} {}.{:09}\n", meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// Whether `name` was archived ahead of time; the marker is taken away.
pub(super) async fn take(context: &Context, path: &Path, name: &str) -> Result<bool> {
    let Some(marker) = marker_of(context, path, name) else {
        return Ok(false);
    };
    let Ok(said) = fs::read_to_string(&marker) else {
        return Ok(false);
    };
    fs::remove_file(&marker)
        .map_err(|error| Error::io(format!("cannot remove {}", marker.display()), error))?;
    // A marker of WAL-G is empty; then the archive itself has to confirm.
    let ours = !said.is_empty();
    if ours && identity(path)? != said {
        log::warn!("{name} changed since it was archived ahead of time; it is archived again");
        return Ok(false);
    }
    if archive::open(context, name).await?.is_some() {
        Ok(true)
    } else {
        log::warn!("{name} was marked as archived and is not there; it is archived again");
        Ok(false)
    }
}

/// Marks `path`, which is stored.
pub(super) fn leave(context: &Context, path: &Path, name: &str) -> Result<()> {
    let marker = marker_of(context, path, name)
        .ok_or_else(|| Error::new(Kind::Internal, format!("{name} cannot be marked")))?;
    let said = identity(path)?;
    if let Some(folder) = marker.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
    }
    fs::write(&marker, said)
        .map_err(|error| Error::io(format!("cannot write {}", marker.display()), error))
}

/// Whether there is a marker for `name`.
pub(super) fn exists(context: &Context, path: &Path, name: &str) -> bool {
    marker_of(context, path, name).is_some_and(|marker| marker.exists())
}
