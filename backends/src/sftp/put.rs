//! Writing: a temporary name, many writes under way, sync, then the real name.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use russh_sftp::client::RawSftpSession;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet};
use walport_engine::storage::{Body, Class, Error, Key, Kind, Put, Result, Stored};

use super::connect::{BLOCK, Connection};
use super::errors;
use super::store::{SftpStore, is_ok, meta};
use crate::temporary::name_for;

pub(super) async fn put(store: &SftpStore, key: &Key, body: Body, how: Put) -> Result<Stored> {
    let path = store.path(key)?;
    let connection = store.connection().await?;
    if how.if_absent && !connection.abilities.hardlink {
        return Err(Error::new(
            Kind::Unsupported,
            "this server cannot create a file only if it is absent",
        ));
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let temporary =
        Temporary::create(&connection, store, format!("{folder}/{}", name_for(name)), key).await?;
    let size = temporary.fill(body, store.config.requests, key).await?;
    let published = temporary.publish(&path, how.if_absent, size, key).await;
    // Whatever a lost connection makes of the answer: nobody knows what was done.
    match published {
        Err(error) if !connection.is_open() && error.kind() != Kind::AlreadyExists => {
            Err(Error::new(
                Kind::Unavailable,
                "the connection was lost before the server had confirmed",
            )
            .with_class(Class::Ambiguous)
            .with_source(error))
        }
        other => other,
    }
}

/// A file that has not got its name yet; removed when it is dropped before.
struct Temporary {
    connection: Arc<Connection>,
    path: String,
    /// `None` once it is closed: a server gives the same handle out again.
    handle: Option<String>,
    published: bool,
}

impl Temporary {
    async fn create(
        connection: &Arc<Connection>,
        store: &SftpStore,
        path: String,
        key: &Key,
    ) -> Result<Self> {
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
        let open = || connection.sftp.open(path.clone(), flags, FileAttributes::empty());
        let opened = match open().await {
            Err(error) if errors::is_missing(&error) => {
                make_folders(connection, store, key).await?;
                open().await
            }
            other => other,
        };
        let handle = opened.map_err(|error| errors::sftp(error, "put", key))?.handle;
        Ok(Self {
            connection: Arc::clone(connection),
            path,
            handle: Some(handle),
            published: false,
        })
    }

    /// Writes the body with up to `requests` writes under way.
    async fn fill(&self, body: Body, requests: usize, key: &Key) -> Result<u64> {
        let handle = self.handle()?;
        let mut stream = body.into_stream();
        let mut flying = FuturesUnordered::new();
        let mut offset = 0;
        while let Some(chunk) = stream.next().await {
            let mut chunk: Bytes = chunk?;
            while !chunk.is_empty() {
                let block = chunk.split_to(chunk.len().min(BLOCK));
                if flying.len() >= requests {
                    landed(flying.next().await, key)?;
                }
                let at = offset;
                offset += block.len() as u64;
                flying.push(self.connection.sftp.write(handle.clone(), at, block.to_vec()));
            }
        }
        while !flying.is_empty() {
            landed(flying.next().await, key)?;
        }
        Ok(offset)
    }

    fn handle(&self) -> Result<String> {
        self.handle.clone().ok_or_else(|| Error::new(Kind::Internal, "the file is closed already"))
    }

    /// Syncs the file, checks its size and gives it its name.
    async fn publish(
        mut self,
        path: &str,
        if_absent: bool,
        size: u64,
        key: &Key,
    ) -> Result<Stored> {
        let failed = |error| errors::sftp(error, "put", key);
        let connection = Arc::clone(&self.connection);
        let (sftp, abilities) = (&connection.sftp, connection.abilities);
        let handle = self.handle()?;
        let replaced = sftp.stat(path).await.ok().and_then(|found| found.attrs.mtime);
        let mut attributes = sftp.fstat(handle.clone()).await.map_err(failed)?.attrs;
        // Times are whole seconds: what replaces an object in the same second
        // must not look like it.
        if let (Some(old), Some(new)) = (replaced, attributes.mtime)
            && new <= old
        {
            attributes.mtime = Some(old + 1);
            let times = FileAttributes {
                atime: Some(old + 1),
                mtime: Some(old + 1),
                ..FileAttributes::empty()
            };
            sftp.fsetstat(handle.clone(), times).await.map_err(failed)?;
        }
        if abilities.fsync {
            sftp.fsync(handle.clone()).await.map_err(failed)?;
        }
        let stored = meta(&attributes);
        if stored.size != size {
            return Err(Error::new(
                Kind::Io,
                format!("{size} bytes were written, and the server has {}", stored.size),
            ));
        }
        self.handle = None;
        sftp.close(handle).await.map_err(failed)?;
        if if_absent {
            // The temporary name goes when `self` is dropped.
            return match sftp.hardlink(self.path.clone(), path).await {
                Ok(_) => {
                    sftp.remove(self.path.clone()).await.map_err(failed)?;
                    self.published = true;
                    Ok(Stored { size, version: stored.version })
                }
                Err(error) => Err(why_not_created(sftp, path, failed(error), key).await),
            };
        }
        if abilities.posix_rename {
            posix_rename(&connection, &self.path, path, key).await?;
        } else {
            replace(&connection, &self.path, path, key).await?;
        }
        self.published = true;
        Ok(Stored { size, version: stored.version })
    }
}

/// When the connection is lost over the request that gives a file its name,
/// nobody knows whether it has got it.
fn unknown_if_lost(error: Error) -> Error {
    match error.kind() {
        Kind::Unavailable | Kind::Stalled => error.with_class(Class::Ambiguous),
        _ => error,
    }
}

/// OpenSSH reports a taken name as a mere failure, so it is looked for.
async fn why_not_created(sftp: &RawSftpSession, path: &str, error: Error, key: &Key) -> Error {
    let error = unknown_if_lost(error);
    if error.class() != Class::Never {
        return error;
    }
    match sftp.stat(path).await {
        Ok(_) => Error::new(Kind::AlreadyExists, "there is such an object already"),
        Err(missing) if errors::is_missing(&missing) => error,
        Err(lost) => errors::sftp(lost, "put", key),
    }
}

fn landed<T>(
    written: Option<std::result::Result<T, russh_sftp::client::error::Error>>,
    key: &Key,
) -> Result<()> {
    match written {
        Some(Err(error)) => Err(errors::sftp(error, "put", key)),
        Some(Ok(_)) | None => Ok(()),
    }
}

async fn posix_rename(connection: &Connection, from: &str, to: &str, key: &Key) -> Result<()> {
    let mut data = Vec::with_capacity(8 + from.len() + to.len());
    for text in [from, to] {
        data.extend_from_slice(&(text.len() as u32).to_be_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    match connection.sftp.extended("posix-rename@openssh.com", data).await {
        Ok(Packet::Status(status)) if is_ok(status.status_code) => Ok(()),
        Ok(Packet::Status(status)) => Err(errors::sftp(status.into(), "put", key)),
        Ok(_) => Err(Error::new(Kind::Io, "the server answered a rename with something else")),
        Err(error) => Err(unknown_if_lost(errors::sftp(error, "put", key))),
    }
}

/// Where a rename does not replace: the old file goes first, so there is a
/// moment without any (declared as [`Limits::atomic_replace`]).
async fn replace(connection: &Connection, from: &str, to: &str, key: &Key) -> Result<()> {
    match connection.sftp.rename(from, to).await {
        Ok(_) => return Ok(()),
        Err(error) if connection.sftp.stat(to).await.is_err() => {
            return Err(errors::sftp(error, "put", key));
        }
        Err(_) => {}
    }
    connection.sftp.remove(to).await.map_err(|error| errors::sftp(error, "put", key))?;
    connection.sftp.rename(from, to).await.map_err(|error| errors::sftp(error, "put", key))?;
    Ok(())
}

/// Makes the folders of an object, the outermost first.
async fn make_folders(connection: &Connection, store: &SftpStore, key: &Key) -> Result<()> {
    let path = store.path(key)?;
    let below = path.strip_prefix(&store.config.root).unwrap_or(&path);
    let mut folder = store.config.root.clone();
    let parts: Vec<_> = below.trim_start_matches('/').split('/').collect();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        folder = format!("{folder}/{part}");
        let attributes = FileAttributes { permissions: Some(0o755), ..FileAttributes::empty() };
        // Another writer may be faster; what matters is that it is there.
        if let Err(refused) = connection.sftp.mkdir(folder.clone(), attributes).await
            && let Err(absent) = connection.sftp.stat(folder.clone()).await
        {
            // A connection that was lost in between says nothing of the folder.
            let why = if errors::is_missing(&absent) { refused } else { absent };
            return Err(errors::sftp(why, "put", key));
        }
    }
    Ok(())
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let (connection, path, handle) =
            (Arc::clone(&self.connection), self.path.clone(), self.handle.clone());
        // Nobody waits for this; without a runtime the connection is gone as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Some(handle) = handle {
                    drop(connection.sftp.close(handle).await);
                }
                drop(connection.sftp.remove(path).await);
            });
        }
    }
}
