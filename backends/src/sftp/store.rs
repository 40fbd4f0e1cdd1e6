//! The store: the contract over one connection, which is made anew when it is lost.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use russh_sftp::protocol::{FileAttributes, StatusCode};
use tokio::sync::Mutex;
use walport_engine::storage::{
    Body, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage,
    Stored,
};

use super::config::Config;
use super::connect::{Abilities, Connection};
use super::errors;
use super::{delete, get, list, put};
use crate::temporary::is_temporary;

/// Objects on a server.
pub struct SftpStore {
    pub(super) config: Config,
    limits: Limits,
    connection: Mutex<Arc<Connection>>,
}

impl SftpStore {
    pub(super) async fn open(config: Config) -> Result<Self> {
        let connection = Connection::open(&config).await?;
        let store = Self {
            limits: limits(connection.abilities),
            connection: Mutex::new(Arc::new(connection)),
            config,
        };
        store.check_root().await?;
        Ok(store)
    }

    async fn check_root(&self) -> Result<()> {
        let connection = self.connection().await?;
        let root = if self.config.root.is_empty() { "/" } else { &self.config.root };
        match connection.sftp.stat(root).await {
            Ok(found) if found.attrs.is_dir() => Ok(()),
            Ok(_) => Err(Error::new(Kind::Config, format!("{root} on {} is not a directory", self.config.host))),
            Err(error) if errors::is_missing(&error) => {
                Err(Error::new(Kind::Config, format!("{root} does not exist on {}", self.config.host))
                    .with_hint("Create the directory on the server: a typing error in the target shall not make a new archive."))
            }
            Err(error) => Err(errors::sftp(error, "open", &Key::foreign(root))),
        }
    }

    /// The connection; a new one if it was lost.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        let mut current = self.connection.lock().await;
        if !current.is_open() {
            log::debug!("connecting to {} again", self.config.host);
            *current = Arc::new(Connection::open(&self.config).await?);
        }
        Ok(Arc::clone(&current))
    }

    /// The path of an object on the server.
    pub(super) fn path(&self, key: &Key) -> Result<String> {
        let body = key.as_str();
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if key.is_prefix() || !body.split('/').all(plain) || is_temporary(key.name().as_bytes()) {
            return Err(
                Error::new(Kind::Invalid, "the key cannot be the name of a file").with_key(key)
            );
        }
        Ok(format!("{}/{body}", self.config.root))
    }

    /// The path of a folder on the server, without a slash at its end.
    pub(super) fn folder(&self, prefix: &Key) -> Result<String> {
        let body = prefix.as_str().strip_suffix('/').unwrap_or(prefix.as_str());
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !prefix.is_prefix() || !body.is_empty() && !body.split('/').all(plain) {
            return Err(Error::new(Kind::Invalid, "the prefix cannot be the name of a folder")
                .with_key(prefix));
        }
        Ok(format!("{}/{body}", self.config.root).trim_end_matches('/').to_owned())
    }
}

fn limits(abilities: Abilities) -> Limits {
    Limits {
        create_if_absent: abilities.hardlink,
        server_side_copy: false,
        atomic_replace: abilities.posix_rename,
        ..Limits::unlimited()
    }
}

/// What the attributes of a file say of the object. Times are whole seconds, so
/// the version holds the size, too.
pub(super) fn meta(attributes: &FileAttributes) -> Meta {
    let size = attributes.size.unwrap_or(0);
    let seconds = attributes.mtime.unwrap_or(0);
    Meta {
        size,
        modified: chrono::DateTime::from_timestamp(i64::from(seconds), 0).unwrap_or_default(),
        version: Some(format!("{seconds}-{size}")),
    }
}

impl fmt::Debug for SftpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpStore").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for SftpStore {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        put::put(self, key, body, how).await.map_err(|error| error.with_op("put").with_key(key))
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        get::get(self, key, how).await.map_err(|error| error.with_op("get").with_key(key))
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let nothing =
            || Error::new(Kind::NotFound, "there is no such object").with_op("head").with_key(key);
        if key.is_prefix() {
            return Err(nothing());
        }
        let path = self.path(key).map_err(|error| error.with_op("head"))?;
        let connection = self.connection().await?;
        match connection.sftp.stat(path).await {
            Ok(found) if found.attrs.is_regular() => Ok(meta(&found.attrs)),
            Ok(_) => Err(nothing()),
            Err(error) => Err(errors::sftp(error, "head", key)),
        }
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        list::list(self, prefix, how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        delete::delete(self, keys).await
    }

    async fn copy(&self, from: &Key, _to: &Key) -> Result<Stored> {
        Err(Error::new(Kind::Unsupported, "an SFTP server cannot copy")
            .with_op("copy")
            .with_key(from))
    }
}

/// Whether a status means success.
pub(super) fn is_ok(code: StatusCode) -> bool {
    code == StatusCode::Ok
}
