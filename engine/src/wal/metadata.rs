//! `WALG_UPLOAD_WAL_METADATA`: when each WAL file was made, as small JSON
//! documents beside the segments.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layout::names;
use crate::layout::wal_metadata::{WalMetadata, bulk_name, bulk_stem, individual_name};
use crate::storage::{Key, Put, StorageExt};

/// Stores the metadata of `name`, in the way the setting says.
pub(super) async fn push(context: &Context, path: &Path, name: &str) -> Result<()> {
    let mode = context.settings.text("WALG_UPLOAD_WAL_METADATA").unwrap_or("NOMETADATA");
    if mode.eq_ignore_ascii_case("INDIVIDUAL") {
        return store(context, &individual_name(name), &WalMetadata::of(name, modified(path)?))
            .await;
    }
    if mode.eq_ignore_ascii_case("BULK") {
        return bulk(context, path, name).await;
    }
    Ok(())
}

/// Collects the files of a group of sixteen and stores them with the last.
async fn bulk(context: &Context, path: &Path, name: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(".")).join("walg_data/walg_archive_status");
    fs::create_dir_all(&folder)
        .map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
    let pending = folder.join(individual_name(name));
    fs::write(&pending, WalMetadata::of(name, modified(path)?).to_json()?)
        .map_err(|error| Error::io(format!("cannot write {}", pending.display()), error))?;
    let (true, Some(document), Some(group)) =
        (name.ends_with('F'), bulk_name(name), bulk_stem(name))
    else {
        return Ok(());
    };
    let (files, created) = pending_of(&folder, group)?;
    store(context, &document, &created).await?;
    for file in files {
        fs::remove_file(&file)
            .map_err(|error| Error::io(format!("cannot remove {}", file.display()), error))?;
    }
    Ok(())
}

fn pending_of(folder: &Path, group: &str) -> Result<(Vec<PathBuf>, WalMetadata)> {
    let cannot_read =
        |path: &Path, error| Error::io(format!("cannot read {}", path.display()), error);
    let mut files = Vec::new();
    let mut created = WalMetadata::default();
    for entry in fs::read_dir(folder).map_err(|error| cannot_read(folder, error))? {
        let path = entry.map_err(|error| cannot_read(folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(group) && name.ends_with(".json") {
            let text = fs::read(&path).map_err(|error| cannot_read(&path, error))?;
            created
                .merge(WalMetadata::parse(&text).map_err(|error| error.context(path.display()))?);
            files.push(path);
        }
    }
    Ok((files, created))
}

fn modified(path: &Path) -> Result<DateTime<Utc>> {
    fs::metadata(path)
        .and_then(|meta| meta.modified())
        .map(DateTime::from)
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))
}

async fn store(context: &Context, name: &str, created: &WalMetadata) -> Result<()> {
    let key = Key::parse(format!("{}{name}", names::WAL))?;
    context.store.put_bytes(&key, created.to_json()?, Put::default()).await?;
    Ok(())
}
