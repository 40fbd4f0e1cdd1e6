//! `WALG_UPLOAD_WAL_METADATA`: when each WAL file was made, as small JSON
//! documents beside the segments.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layout::{names, wal_metadata};
use crate::storage::{Key, Put, StorageExt};

/// How many leading characters of a name a bulk document is called by: it
/// covers the sixteen segments that share them.
const BULK_NAME: usize = 23;

/// Stores the metadata of `name`, in the way the setting says.
pub(super) async fn push(context: &Context, path: &Path, name: &str) -> Result<()> {
    let mode = context.settings.text("WALG_UPLOAD_WAL_METADATA").unwrap_or("NOMETADATA");
    if mode.eq_ignore_ascii_case("INDIVIDUAL") {
        let created = BTreeMap::from([(name.to_owned(), modified(path)?)]);
        return store(context, &format!("{name}.json"), &created).await;
    }
    if mode.eq_ignore_ascii_case("BULK") {
        return bulk(context, path, name).await;
    }
    Ok(())
}

/// Collects the files of a group of sixteen and stores them with the last.
async fn bulk(context: &Context, path: &Path, name: &str) -> Result<()> {
    let folder = pending_folder(path);
    fs::create_dir_all(&folder)
        .map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
    let own = BTreeMap::from([(name.to_owned(), modified(path)?)]);
    let pending = folder.join(format!("{name}.json"));
    fs::write(&pending, wal_metadata::encode(&own))
        .map_err(|error| Error::io(format!("cannot write {}", pending.display()), error))?;
    if name.len() <= BULK_NAME || !name.ends_with('F') {
        return Ok(());
    }
    let group = &name[..BULK_NAME];
    let (files, created) = pending_of(&folder, group)?;
    store(context, &format!("{group}.json"), &created).await?;
    for file in files {
        fs::remove_file(&file).map_err(|error| Error::io(format!("cannot remove {}", file.display()), error))?;
    }
    Ok(())
}

fn pending_folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new(".")).join("walg_data/walg_archive_status")
}

type Created = BTreeMap<String, DateTime<Utc>>;

fn pending_of(folder: &Path, group: &str) -> Result<(Vec<PathBuf>, Created)> {
    let mut files = Vec::new();
    let mut created = Created::new();
    for entry in fs::read_dir(folder).map_err(|error| Error::io(format!("cannot read {}", folder.display()), error))? {
        let path = entry.map_err(|error| Error::io(format!("cannot read {}", folder.display()), error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(group) && name.ends_with(".json") {
            let text = fs::read(&path).map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
            created.extend(wal_metadata::decode(&text).map_err(|error| error.context(path.display()))?);
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

async fn store(context: &Context, name: &str, created: &Created) -> Result<()> {
    let key = Key::parse(format!("{}{name}", names::WAL))?;
    context.store.put_bytes(&key, wal_metadata::encode(created), Put::default()).await?;
    Ok(())
}
