//! Listing: folder by folder, each sorted, so that keys come in byte order.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::StatusCode;
use walport_engine::storage::{Entry, Key, List, Meta, Result};

use super::errors;
use super::store::{SftpStore, meta};
use crate::temporary::is_temporary;

pub(super) fn list<'a>(
    store: &'a SftpStore,
    prefix: &Key,
    how: List,
) -> BoxStream<'a, Result<Entry>> {
    let walk = Walk { store, how, stack: Vec::new(), start: Some(prefix.clone()) };
    stream::unfold(Some(walk), |walk| async {
        let mut walk = walk?;
        match walk.next().await {
            Ok(Some(entry)) => Some((Ok(entry), Some(walk))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What is in a folder: key, and the object's meta data or `None` for a folder.
type Found = (Key, Option<Meta>);

struct Walk<'a> {
    store: &'a SftpStore,
    how: List,
    /// What is left of each open folder, the smallest last.
    stack: Vec<Vec<Found>>,
    start: Option<Key>,
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<Entry>> {
        if let Some(prefix) = self.start.take() {
            let found = self.read(&prefix).await?;
            self.stack.push(found);
        }
        while let Some(folder) = self.stack.last_mut() {
            let Some((key, meta)) = folder.pop() else {
                self.stack.pop();
                continue;
            };
            let passed = self.how.after.as_ref().is_some_and(|after| key <= *after);
            match meta {
                Some(_) if passed => {}
                Some(meta) => return Ok(Some(Entry::Object(key, meta))),
                None if !self.how.recursive => {
                    if !passed {
                        return Ok(Some(Entry::Prefix(key)));
                    }
                }
                None if passed
                    && !self
                        .how
                        .after
                        .as_ref()
                        .is_some_and(|after| after.as_str().starts_with(key.as_str())) => {}
                None => {
                    let found = self.read(&key).await?;
                    self.stack.push(found);
                }
            }
        }
        Ok(None)
    }

    /// The content of a folder, the largest key first; nothing if it is not there.
    async fn read(&self, prefix: &Key) -> Result<Vec<Found>> {
        let failed = |error| errors::sftp(error, "list", prefix);
        let connection = self.store.connection().await?;
        let folder = self.store.folder(prefix)?;
        let folder = if folder.is_empty() { "/".to_owned() } else { folder };
        let handle = match connection.sftp.opendir(folder).await {
            Ok(opened) => opened.handle,
            Err(error) if errors::is_missing(&error) => return Ok(Vec::new()),
            // OpenSSH says no more than this of a file.
            Err(SftpError::Status(status)) if status.status_code == StatusCode::Failure => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        let outcome = loop {
            match connection.sftp.readdir(handle.clone()).await {
                Ok(names) => {
                    for file in names.files {
                        if matches!(file.filename.as_str(), "." | "..")
                            || is_temporary(file.filename.as_bytes())
                        {
                            continue;
                        }
                        let key = prefix.join(&file.filename);
                        if file.attrs.is_dir() {
                            found.push((key.join(""), None));
                        } else if file.attrs.is_regular() {
                            found.push((key, Some(meta(&file.attrs))));
                        }
                    }
                }
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                    break Ok(());
                }
                Err(error) => break Err(failed(error)),
            }
        };
        drop(connection.sftp.close(handle).await);
        outcome?;
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        Ok(found)
    }
}
