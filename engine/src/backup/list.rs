//! `backup-list`: which backups there are, and finding one of them.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::names::{self, BASE_BACKUPS};
use crate::layout::{Metadata, Sentinel, gojson};
use crate::storage::{Entry, Key, List, StorageExt};

/// The largest sentinel or metadata document that is read, in bytes. They are a
/// few hundred bytes and the user's data.
const LARGEST: u64 = 16 << 20;

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
    /// What its metadata says, if that was asked for and is there.
    pub detail: Option<Metadata>,
}

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

/// The backups, the oldest first by modification time of their sentinels. With
/// `detail` each has its metadata, and they are ordered by start time, unless
/// one of them has no metadata.
pub async fn list(context: &Context, detail: bool) -> Result<Vec<BackupInfo>> {
    let found = names_and_times(context).await?;
    if !detail {
        return Ok(found);
    }
    let read = found.into_iter().map(|info| async move {
        let detail = metadata(&context.within(&info.storage_name), &info.name).await?;
        Ok::<_, Error>(BackupInfo { detail, ..info })
    });
    let mut detailed: Vec<_> = futures_util::stream::iter(read).buffered(8).try_collect().await?;
    if detailed.iter().all(|info| info.detail.is_some()) {
        detailed.sort_by_key(|info| info.detail.as_ref().map(|detail| detail.start_time));
    }
    Ok(detailed)
}

async fn names_and_times(context: &Context) -> Result<Vec<BackupInfo>> {
    let folder = Key::parse(BASE_BACKUPS)?;
    let mut found = Vec::new();
    for (storage_name, store) in &context.storages {
        let mut entries = store.list(&folder, List::default());
        while let Some(entry) = entries.try_next().await? {
            let Entry::Object(key, meta) = entry else { continue };
            let Some(name) = names::backup_of_sentinel(&key) else { continue };
            found.push(BackupInfo {
                wal_file_name: names::wal_file_name(&name),
                name,
                modified: meta.modified,
                storage_name: storage_name.clone(),
                detail: None,
            });
        }
    }
    found.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    Ok(found)
}

/// The metadata of a backup; `None` if it has none, as very old ones.
pub async fn metadata(context: &Context, name: &str) -> Result<Option<Metadata>> {
    let key = names::metadata(BASE_BACKUPS, name);
    match context.store.get_bytes(&key, LARGEST).await {
        Ok(text) => Metadata::parse(&text).map(Some).map_err(|error| error.with_key(key)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The sentinel of a backup.
pub async fn sentinel(context: &Context, name: &str) -> Result<Sentinel> {
    let key = names::sentinel(BASE_BACKUPS, name);
    let text =
        context.store.get_bytes(&key, LARGEST).await.map_err(|error| match error.kind() {
            Kind::NotFound => no_backup(name),
            _ => error,
        })?;
    Sentinel::parse(&text).map_err(|error| error.with_key(key))
}

fn no_backup(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no backup {name}")).with_hint(
        "`walport backup-list` shows the backups; one without a sentinel is not complete.",
    )
}

/// The name of the backup that `selector` means, and the storage it is in.
pub async fn find(context: &Context, selector: &Selector) -> Result<(String, String)> {
    match selector {
        Selector::Name(name) => {
            // The name becomes part of keys.
            names::BackupName::parse(name)?;
            let key = names::sentinel(BASE_BACKUPS, name);
            for (storage, store) in &context.storages {
                if store.find(&key).await?.is_some() {
                    return Ok((name.clone(), storage.clone()));
                }
            }
            Err(no_backup(name))
        }
        Selector::Latest => names_and_times(context)
            .await?
            .pop()
            .map(|newest| (newest.name, newest.storage_name))
            .ok_or_else(|| {
                Error::new(Kind::NotFound, "there are no backups").with_hint(
                    "Take one with `walport backup-push`, and check the prefix of the storage.",
                )
            }),
        Selector::UserData(wanted) => by_user_data(context, wanted).await,
    }
}

async fn by_user_data(context: &Context, wanted: &str) -> Result<(String, String)> {
    let wanted = gojson::Value::parse(wanted.as_bytes())
        .map_err(|error| error.context("the user data is not a JSON document"))?;
    let mut matching = Vec::new();
    for info in list(context, true).await? {
        let user_data = match info.detail {
            Some(detail) => detail.user_data,
            None => sentinel(&context.within(&info.storage_name), &info.name).await?.user_data,
        };
        if user_data.as_ref() == Some(&wanted) {
            matching.push((info.name, info.storage_name));
        }
    }
    match matching.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::new(Kind::NotFound, "no backup has this user data")),
        several => Err(Error::new(
            Kind::Invalid,
            format!(
                "several backups have this user data: {}",
                several.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        )
        .with_hint("Give the name of one of them.")),
    }
}
