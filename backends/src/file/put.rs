//! Writing: a temporary name, sync, rename, sync of the directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::fs::{Advice, CWD, RenameFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use walport_engine::codec::transfer::spawn;
use walport_engine::storage::{Activity, Body, Class, Error, Key, Kind, Put, Result, Stored};

use super::names;
use super::store::Inner;

/// After so many bytes the kernel is told to begin writing them to disk, so that
/// the final sync of a large object does not find everything still to do: 950 MB
/// took 1.1 s instead of 1.4 s, against 5 s with a thread that syncs meanwhile,
/// and stay in the page cache.
const WRITEBACK: u64 = 8 << 20;
/// From so many bytes on, the sync may take as long as a stall is allowed to.
const LONG_SYNC: u64 = 16 << 20;
/// How often a sync that goes on is reported as a sign of life.
const TICK: Duration = Duration::from_secs(5);
/// The stack of the thread that reports.
const TICK_STACK: usize = 64 << 10;
/// How often a directory may vanish between being made and being used.
const ATTEMPTS: usize = 16;

enum Step {
    Chunk(Bytes),
    Finish,
}

/// Stores `body`. Dropping the future aborts: without [`Step::Finish`] the
/// writing thread removes what it wrote.
pub(super) async fn put(inner: &Arc<Inner>, key: &Key, body: Body, how: Put) -> Result<Stored> {
    if how.storage_class.is_some() || !how.tags.is_empty() || how.retention.is_some() {
        return Err(Error::new(
            Kind::Unsupported,
            "files have no storage class, tags or retention",
        ));
    }
    let path = names::object(&inner.root, key)?;
    let (sender, receiver) = mpsc::channel(1);
    let shared = Arc::clone(inner);
    let written = spawn("file-put", move || write(&shared, &path, &how, receiver))?;
    let mut stream = body.into_stream();
    let mut failed = None;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                if sender.send(Step::Chunk(chunk)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if failed.is_none() {
        // A thread that has failed no longer listens; its result says why.
        drop(sender.send(Step::Finish).await);
    }
    drop(sender);
    let written = written.await;
    failed.map_or(written, Err)
}

fn write(inner: &Inner, path: &Path, how: &Put, mut steps: mpsc::Receiver<Step>) -> Result<Stored> {
    if how.if_absent && path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(exists());
    }
    let mut temporary = Temporary::create(inner, path)?;
    loop {
        match steps.blocking_recv() {
            Some(Step::Chunk(chunk)) => {
                temporary.write(&chunk)?;
                how.activity.touch();
            }
            Some(Step::Finish) => {
                temporary.sync(&how.activity)?;
                return temporary.publish(inner, path, how.if_absent);
            }
            None => return Err(Error::new(Kind::Interrupted, "the upload was abandoned")),
        }
    }
}

fn exists() -> Error {
    Error::new(Kind::AlreadyExists, "an object of that name exists")
}

/// A file under a temporary name, removed when dropped.
pub(super) struct Temporary<'a> {
    file: File,
    path: PathBuf,
    size: u64,
    flushed: u64,
    published: bool,
    /// Directories were made for it, which go again if nothing comes into them.
    made: Option<(&'a Inner, PathBuf)>,
}

impl<'a> Temporary<'a> {
    /// Makes the file beside `path`, and the directories it needs.
    pub(super) fn create(inner: &'a Inner, path: &Path) -> Result<Self> {
        let mut attempt = 0;
        let mut made = None;
        loop {
            attempt += 1;
            let temporary = names::temporary(path);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path: temporary,
                        size: 0,
                        flushed: 0,
                        published: false,
                        made,
                    });
                }
                // A deletion elsewhere may remove the directory as empty before
                // the file is in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    let Some(parent) = path.parent() else {
                        return Err(creation_failed(inner, path, error));
                    };
                    inner.directories.create(parent)?;
                    made = Some((inner, parent.to_owned()));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
                Err(error) => return Err(creation_failed(inner, path, error)),
            }
        }
    }

    /// The open file, for copies inside the kernel.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Records bytes that came into the file in another way than by `write`.
    pub(super) fn grown(&mut self, bytes: u64) {
        self.size += bytes;
        let pending = self.size - self.flushed;
        if pending >= WRITEBACK {
            // Advice only: a file system that does not take it loses nothing.
            let _ = rustix::fs::fadvise(
                self.file.as_fd(),
                self.flushed,
                NonZeroU64::new(pending),
                Advice::DontNeed,
            );
            self.flushed = self.size;
        }
    }

    /// Appends.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(data).map_err(|error| self.failed("write", error))?;
        self.grown(data.len() as u64);
        Ok(())
    }

    /// Writes the file to disk, and reports meanwhile that it is alive: how far
    /// a sync is nobody can tell, and a slow disk is not a dead one.
    pub(super) fn sync(&self, activity: &Activity) -> Result<()> {
        let synced = if self.size < LONG_SYNC {
            self.file.sync_all()
        } else {
            let ended = (Mutex::new(false), Condvar::new());
            std::thread::scope(|scope| {
                let tick = || {
                    let mut over = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
                    while !*over {
                        activity.touch();
                        over = ended
                            .1
                            .wait_timeout(over, TICK)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0;
                    }
                };
                // Without the thread, the sync is only less patient.
                let ticking =
                    std::thread::Builder::new().stack_size(TICK_STACK).spawn_scoped(scope, tick);
                let synced = self.file.sync_all();
                *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                ended.1.notify_all();
                drop(ticking);
                synced
            })
        };
        synced.map_err(|error| self.failed("sync", error))
    }

    /// Gives the synced file its name and syncs the directory.
    pub(super) fn publish(mut self, inner: &Inner, path: &Path, if_absent: bool) -> Result<Stored> {
        let meta = self.file.metadata().map_err(|error| self.failed("check", error))?;
        let meta = names::meta_of(&meta);
        if meta.size != self.size {
            return Err(Error::new(
                Kind::Corrupt,
                format!("{} bytes were written, but the file has {}", self.size, meta.size),
            ));
        }
        if if_absent {
            self.rename_new(path)?;
        } else {
            std::fs::rename(&self.path, path).map_err(|error| naming_failed(path, error))?;
        }
        self.published = true;
        if let Some(parent) = path.parent() {
            // The object is there now, but perhaps not after a power cut.
            super::dirs::sync(parent)
                .and_then(|()| inner.directories.settle(parent))
                .map_err(|error| error.with_class(Class::Ambiguous))?;
        }
        Ok(Stored { size: meta.size, version: meta.version })
    }

    fn rename_new(&self, path: &Path) -> Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link_new(path),
            Err(error) => Err(naming_failed(path, error.into())),
        }
    }

    /// As `rename_new`, for file systems (NFS) whose rename always replaces.
    pub(super) fn link_new(&self, path: &Path) -> Result<()> {
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A repeated request over NFS finds the link that the first one
                // made: a second name of this very file means we won.
                if !self.is_linked_twice() {
                    return Err(exists());
                }
            }
            Err(error) => {
                return Err(naming_failed(path, error).with_hint(
                    "Creating an object only if it is absent needs renameat2 or hard links on the archive's file system.",
                ));
            }
        }
        self.discard();
        Ok(())
    }

    /// Removes the temporary name. One that stays is hidden, so it does no harm.
    fn discard(&self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove the temporary file {}: {error}", self.path.display());
            }
            _ => {}
        }
    }

    fn is_linked_twice(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 2)
    }

    pub(super) fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("cannot {what} {}", self.path.display()), error)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published {
            self.discard();
            if let Some((inner, directory)) = &self.made {
                // Only empty ones go; one that stays is not shown.
                drop(inner.directories.prune(directory));
            }
        }
    }
}

fn creation_failed(inner: &Inner, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => match inner.missing() {
            missing if missing.kind() != Kind::NotFound => missing,
            _ => Error::io(format!("cannot create {}", path.display()), error),
        },
        io::ErrorKind::NotADirectory => Error::new(
            Kind::Invalid,
            "a part of the key's path is an object, and files cannot be folders",
        ),
        _ => inner.failed("create", path, error),
    }
}

fn naming_failed(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::IsADirectory => Error::new(Kind::Invalid, "a folder of that name exists"),
        io::ErrorKind::InvalidFilename => {
            Error::new(Kind::Invalid, "the name is too long for the file system")
        }
        _ => Error::io(format!("cannot rename a finished object to {}", path.display()), error),
    }
}
