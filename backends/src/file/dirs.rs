//! Directories: made on demand and synced, removed when emptied.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use walport_engine::storage::{Error, Result};

/// A directory older than this was synced by whoever made it, or never will be.
const SETTLED: Duration = Duration::from_secs(60);
/// How many directories are remembered before the memory is emptied.
const REMEMBERED: usize = 1024;

/// The directories below one root.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, durable: Mutex::default() }
    }

    /// Makes `directory` and its missing ancestors below the root, each synced
    /// together with its parent. The root itself is never made.
    pub(super) fn create(&self, directory: &Path) -> Result<()> {
        if directory == self.root || !directory.starts_with(&self.root) {
            return Ok(());
        }
        let made = match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = directory.parent() else { return Ok(()) };
                self.create(parent)?;
                DirBuilder::new().mode(0o755).create(directory)
            }
            made => made,
        };
        match made {
            Ok(()) => {
                sync(directory)?;
                directory.parent().map_or(Ok(()), sync)?;
                self.remember(directory);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // The root is gone, or the parent was removed as empty just now; the
            // caller's next attempt to make its file tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(
                format!("cannot create the directory {}", directory.display()),
                error,
            )),
        }
    }

    /// Makes sure that the names of `directory` and of its ancestors are on
    /// disk, which they may not be while another process is making them.
    pub(super) fn settle(&self, directory: &Path) -> Result<()> {
        let mut current = directory;
        while current != self.root && current.starts_with(&self.root) {
            if self.lock().contains(current) {
                return Ok(());
            }
            let Some(parent) = current.parent() else { break };
            if !is_settled(current) {
                sync(parent)?;
            }
            current = parent;
        }
        self.remember(directory);
        Ok(())
    }

    /// Syncs `directory` after names were removed from it, or removes it where it
    /// is empty and goes on with its parent. The root stays.
    pub(super) fn prune(&self, directory: &Path) -> Result<()> {
        let mut current = directory;
        while current != self.root && current.starts_with(&self.root) {
            let gone = match std::fs::remove_dir(current) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if !gone {
                break;
            }
            self.lock().remove(current);
            let Some(parent) = current.parent() else { break };
            current = parent;
        }
        match sync(current) {
            Err(error) if error.kind() == walport_engine::Kind::NotFound => Ok(()),
            done => done,
        }
    }

    fn remember(&self, directory: &Path) {
        let mut durable = self.lock();
        if durable.len() >= REMEMBERED {
            durable.clear();
        }
        durable.insert(directory.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_settled(directory: &Path) -> bool {
    let born = std::fs::metadata(directory).and_then(|found| found.created());
    // Where the file system does not tell, syncing once more is the safe answer.
    born.is_ok_and(|born| SystemTime::now().duration_since(born).is_ok_and(|age| age > SETTLED))
}

/// Writes the names in `directory` to disk.
pub(super) fn sync(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| {
        Error::io(format!("cannot sync the directory {}", directory.display()), error)
    })
}
