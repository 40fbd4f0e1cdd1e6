//! Deleting: the files, then the directories they leave empty.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use walport_engine::storage::{Deleted, Error, Key, Kind, Result};

use super::names;
use super::store::Inner;

/// Removes `keys`, one outcome for each. Directories are synced once per batch.
pub(super) fn delete(inner: &Inner, keys: Vec<Key>) -> Vec<Deleted> {
    let mut touched: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        let outcome = remove(inner, &key).map(|path| {
            if let Some(parent) = path.as_deref().and_then(Path::parent) {
                touched.entry(parent.to_owned()).or_default().push(index);
            }
        });
        let outcome = outcome.map_err(|error| error.with_op("delete").with_key(&key));
        outcomes.push(Deleted { key, outcome });
    }
    // The deepest come first, so that parents are seen as empty.
    for (directory, indexes) in touched.into_iter().rev() {
        if let Err(error) = inner.directories.prune(&directory) {
            for index in indexes {
                let deleted = &mut outcomes[index];
                let told = Error::new(error.kind(), error.to_string())
                    .with_op("delete")
                    .with_key(&deleted.key);
                deleted.outcome = Err(told);
            }
        }
    }
    outcomes
}

/// Removes one file and says where it was; `None` if there was none.
fn remove(inner: &Inner, key: &Key) -> Result<Option<PathBuf>> {
    let path = names::object(&inner.root, key)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(Some(path)),
        // A folder is not an object, so no object of that name exists.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory || path.is_dir() => Ok(None),
        Err(error) => match inner.failed("remove", &path, error) {
            missing if missing.kind() == Kind::NotFound => Ok(None),
            error => Err(error),
        },
    }
}
