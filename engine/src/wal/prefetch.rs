//! Prefetch: the next WAL files, before recovery asks for them.
//!
//! Layout of WAL-G: a ready file is `.wal-g/prefetch/<segment>` beside the
//! destination (or under `WALG_PREFETCH_DIR`), one on its way is in `running/`.
//! Nothing is synced, since syncing would hold up the file that recovery waits
//! for. Instead the folder records the boot of the machine that its files were
//! written in: after a power cut they are not used, as they may have holes. The
//! window is bounded in files and in bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::archive;
use super::fetch::{self, NewFile, segment_size};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::Segment;

/// The most bytes of WAL that are fetched ahead.
const WINDOW: u64 = 256 << 20;
/// How often a file that is on its way is looked at, and how many looks without
/// growth make it stalled: 200 ms, as in WAL-G.
const POLL: Duration = Duration::from_millis(2);
const STALLED_POLLS: u32 = 100;

/// Fetches the files after `name` into the prefetch folder of `destination`. A
/// file that is not there ends it.
pub async fn prefetch(context: &Context, name: &str, destination: &Path) -> Result<()> {
    let size = super::segment_size(&context.settings);
    let mut segment = Segment::parse(name, size)?;
    let folders = Folders::of(context, destination);
    folders.belong_to_this_boot()?;
    folders.remove_older(&segment, size);
    let wanted = context.settings.number("WALG_DOWNLOAD_CONCURRENCY").unwrap_or(10).max(1) as u64;
    for _ in 0..wanted.min((WINDOW / size).max(1)) {
        segment = segment.next();
        if !prefetch_one(context, &folders, &segment.name(size)).await? {
            break;
        }
    }
    Ok(())
}

/// Fetches one file; false if the archive does not have it.
async fn prefetch_one(context: &Context, folders: &Folders, name: &str) -> Result<bool> {
    let (ready, running) = (folders.ready.join(name), folders.running.join(name));
    if ready.exists() || running.exists() && !is_stale(&running) {
        return Ok(true);
    }
    let Some(archived) = archive::open(context, name).await? else {
        return Ok(false);
    };
    fs::create_dir_all(&folders.running).map_err(|error| {
        Error::io(format!("cannot create {}", folders.running.display()), error)
    })?;
    // A stale file only: one that grows was noticed above.
    drop(fs::remove_file(&running));
    let fetched = fetch::write(archived, name, move || NewFile::create_as(running, &ready)).await;
    match fetched {
        // Another prefetch of the same file is at work, or was faster.
        Err(error) if error.kind() == Kind::AlreadyExists => Ok(true),
        other => other.map(|()| true),
    }
}

/// Left behind by a prefetch that was killed.
fn is_stale(running: &Path) -> bool {
    let age = fs::metadata(running)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| at.elapsed().ok());
    age.is_none_or(|age| age > Duration::from_secs(600))
}

/// Moves a ready file to `destination`. Waits for one that is on its way, as
/// long as it grows.
pub(super) async fn take(context: &Context, name: &str, destination: &Path) -> Result<bool> {
    let folders = Folders::of(context, destination);
    let (ready, running) = (folders.ready.join(name), folders.running.join(name));
    let mut still = 0;
    let mut seen = None;
    while !ready.exists() {
        let Ok(meta) = fs::metadata(&running) else { break };
        still = if seen == Some(meta.len()) { still + 1 } else { 0 };
        seen = Some(meta.len());
        if still > STALLED_POLLS {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    if !ready.exists() {
        return Ok(false);
    }
    if !folders.are_of_this_boot() || !is_whole(&ready, name) {
        drop(fs::remove_file(&ready));
        return Ok(false);
    }
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        &ready,
        rustix::fs::CWD,
        destination,
        rustix::fs::RenameFlags::NOREPLACE,
    ) {
        Ok(()) => Ok(true),
        // Another file system, or another fetch was faster: download it.
        Err(error) => {
            log::debug!("cannot use {}: {error}", ready.display());
            Ok(false)
        }
    }
}

/// Whether a ready file is what its name says.
fn is_whole(path: &Path, name: &str) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let mut page = [0; 40];
    let read = super::push::read_full(&mut &file, &mut page).unwrap_or(0);
    let size = file.metadata().map_or(0, |meta| meta.len());
    let whole = segment_size(&page[..read]) == Some(size);
    if !whole {
        log::warn!("the prefetched {name} is not a whole segment and is not used");
    }
    whole
}

/// What the kernel calls this run of the machine.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

struct Folders {
    ready: PathBuf,
    running: PathBuf,
}

impl Folders {
    fn of(context: &Context, destination: &Path) -> Self {
        let base = match context.settings.text("WALG_PREFETCH_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => destination.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let ready = base.join(".wal-g/prefetch");
        let running = ready.join("running");
        Self { ready, running }
    }

    fn boot_record(&self) -> PathBuf {
        self.ready.join("boot_id")
    }

    /// Whether what is ready was written since the machine was started.
    fn are_of_this_boot(&self) -> bool {
        boot_id()
            .is_some_and(|id| fs::read_to_string(self.boot_record()).is_ok_and(|own| own == id))
    }

    /// Removes what another boot left and records this one.
    fn belong_to_this_boot(&self) -> Result<()> {
        if self.are_of_this_boot() {
            return Ok(());
        }
        for folder in [&self.ready, &self.running] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                drop(fs::remove_file(entry.path()));
            }
        }
        fs::create_dir_all(&self.running).map_err(|error| {
            Error::io(format!("cannot create {}", self.running.display()), error)
        })?;
        let record = self.boot_record();
        fs::write(&record, boot_id().unwrap_or_default())
            .map_err(|error| Error::io(format!("cannot write {}", record.display()), error))
    }

    /// Removes files that recovery has passed.
    fn remove_older(&self, current: &Segment, size: u64) {
        for folder in [&self.ready, &self.running] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let older =
                    name.to_str().and_then(|name| Segment::parse(name, size).ok()).is_some_and(
                        |found| (found.timeline, found.number) < (current.timeline, current.number),
                    );
                if older {
                    drop(fs::remove_file(entry.path()));
                }
            }
        }
    }
}
