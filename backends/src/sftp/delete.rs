//! Removing: many requests under way; folders that became empty go as well, so
//! that listings do not show them.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use walport_engine::storage::{Deleted, Key, Result};

use super::connect::Connection;
use super::errors;
use super::store::SftpStore;

/// Requests under way at a time.
const REQUESTS: usize = 16;
/// The longest file name in bytes on the usual file systems.
const LONGEST: usize = 255;

pub(super) async fn delete(store: &SftpStore, keys: &[Key]) -> Result<Vec<Deleted>> {
    let connection = store.connection().await?;
    let mut deleted = Vec::with_capacity(keys.len());
    for some in keys.chunks(REQUESTS) {
        let removed = some.iter().map(|key| remove(store, &connection, key.clone()));
        deleted.extend(join_all(removed).await);
    }
    // The deepest first: a folder goes only when it is empty, and so do the
    // folders that it was the last in.
    let mut folders = BTreeSet::new();
    for done in deleted.iter().filter(|done| done.outcome.is_ok()) {
        let mut folder = done.key.parent();
        while !folder.as_str().is_empty() && folders.insert(folder.clone()) {
            folder = folder.parent();
        }
    }
    for folder in folders.iter().rev() {
        if let Ok(path) = store.folder(folder) {
            drop(connection.sftp.rmdir(path).await);
        }
    }
    Ok(deleted)
}

async fn remove(store: &SftpStore, connection: &Connection, key: Key) -> Deleted {
    let outcome = match store.path(&key) {
        Ok(path) => match connection.sftp.remove(path.clone()).await {
            Ok(_) => Ok(()),
            Err(error) if errors::is_missing(&error) => Ok(()),
            // No file system has such a name, and so no such object.
            Err(_) if key.as_str().split('/').any(|part| part.len() > LONGEST) => Ok(()),
            // A folder of that name is no object.
            Err(error) => match connection.sftp.stat(path).await {
                Ok(found) if found.attrs.is_dir() => Ok(()),
                _ => Err(errors::sftp(error, "delete", &key)),
            },
        },
        Err(error) => Err(error.with_op("delete")),
    };
    Deleted { key, outcome }
}
