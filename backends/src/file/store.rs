//! The store itself: the contract's methods, each on a blocking thread.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use walport_engine::codec::transfer::blocking;
use walport_engine::memory::Budget;
use walport_engine::storage::{
    Body, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage,
    Stored,
};

use super::dirs::Directories;
use super::{copy, delete, get, list, names, put};

/// The largest file of any file system in use: the offset is signed.
const MAX_OBJECT: u64 = i64::MAX as u64;

/// Objects as files below one directory. Cloning is not needed: share it.
#[derive(Debug)]
pub struct FileStore {
    limits: Limits,
    pub(super) inner: Arc<Inner>,
}

/// What the blocking threads share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) root: PathBuf,
    pub(super) budget: Budget,
    pub(super) directories: Directories,
}

impl FileStore {
    /// Opens the archive below `root`, which must be a directory. Buffers for
    /// reading are drawn from `budget`.
    pub async fn open(root: PathBuf, budget: Budget) -> Result<Self> {
        let inner = Arc::new(Inner { directories: Directories::new(root.clone()), root, budget });
        let checked = Arc::clone(&inner);
        blocking("file-open", move || checked.check_root(Kind::Config)).await?;
        let limits = Limits { max_object: MAX_OBJECT, ..Limits::unlimited() };
        Ok(Self { limits, inner })
    }

    async fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        key: &Key,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let done = blocking("file", move || work(&inner)).await;
        done.map_err(|error| error.with_op(op).with_key(key))
    }
}

impl Inner {
    /// Fails with `kind` unless the root is a directory.
    fn check_root(&self, kind: Kind) -> Result<()> {
        let wrong = match std::fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => "is not a directory".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
            Err(error) => {
                return Err(Error::io(
                    format!("cannot open the archive {}", self.root.display()),
                    error,
                ));
            }
        };
        Err(Error::new(kind, format!("the archive {} {wrong}", self.root.display()))
            .with_hint("Create the directory, or mount the file system that holds it, then run the command again."))
    }

    /// The error for an object that is not there: it is only missing if the root
    /// is there, since an archive that is not mounted must not look empty.
    pub(super) fn missing(&self) -> Error {
        match self.check_root(Kind::Unavailable) {
            Ok(()) => Error::new(Kind::NotFound, "no such object"),
            Err(error) => error,
        }
    }

    /// The path of an object to be read. Nothing can be stored under a prefix or
    /// a reserved name, so such an object is missing.
    pub(super) fn readable(&self, key: &Key) -> Result<PathBuf> {
        if key.is_prefix() || names::is_temporary(key.name().as_bytes()) {
            return Err(self.missing());
        }
        names::object(&self.root, key)
    }

    /// The error for a failed operation on an object's path.
    pub(super) fn failed(&self, what: &str, path: &Path, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.missing(),
            io::ErrorKind::InvalidFilename => {
                Error::new(Kind::Invalid, "the name is too long for the file system")
            }
            _ => Error::io(format!("cannot {what} {}", path.display()), error),
        }
    }

    /// What the file system knows of the object at `path`.
    pub(super) fn stat(&self, path: &Path) -> Result<Metadata> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(found),
            Ok(_) => Err(self.missing()),
            Err(error) => Err(self.failed("look up", path, error)),
        }
    }
}

#[async_trait]
impl Storage for FileStore {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        put::put(&self.inner, key, body, how)
            .await
            .map_err(|error| error.with_op("put").with_key(key))
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        get::get(&self.inner, key, how).await.map_err(|error| error.with_op("get").with_key(key))
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let name = key.clone();
        self.run("head", key, move |inner| {
            Ok(names::meta_of(&inner.stat(&inner.readable(&name)?)?))
        })
        .await
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        list::list(&self.inner, prefix, how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let inner = Arc::clone(&self.inner);
        let keys = keys.to_vec();
        blocking("file-delete", move || Ok(delete::delete(&inner, keys))).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        copy::copy(&self.inner, from, to)
            .await
            .map_err(|error| error.with_op("copy").with_key(from))
    }
}
