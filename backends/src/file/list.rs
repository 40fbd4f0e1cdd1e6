//! Listing: depth first in byte order, with memory for a page of names per level.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;
use walport_engine::codec::transfer::spawn;
use walport_engine::storage::{Entry, Error, Key, Kind, List, Result};

use super::names;
use super::page::{Page, compare};
use super::store::Inner;

/// Entries that cross from the listing thread at a time.
const BATCH: usize = 64;

type Batch = Result<Vec<Entry>>;

/// The entries under `prefix`. The thread starts when the stream is first polled
/// and ends when the stream is dropped.
pub(super) fn list<'a>(
    inner: &Arc<Inner>,
    prefix: &Key,
    how: List,
) -> BoxStream<'a, Result<Entry>> {
    let (inner, prefix) = (Arc::clone(inner), prefix.clone());
    async move {
        let (sender, receiver) = mpsc::channel::<Batch>(1);
        let started = spawn("file-list", move || {
            let mut walk = Walk::new(&inner, prefix.clone(), how, &sender);
            let end = walk.run().map(|_| walk.send());
            if let Err(error) = end.map_err(|error| error.with_op("list").with_key(&prefix)) {
                drop(sender.blocking_send(Err(error)));
            }
            Ok(())
        });
        match started {
            Ok(ended) => entries(receiver, ended.boxed()),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
    .flatten_stream()
    .boxed()
}

/// Flattens the batches; a thread that died is an error, not the end.
fn entries(
    receiver: mpsc::Receiver<Batch>,
    ended: futures_util::future::BoxFuture<'static, Result<()>>,
) -> BoxStream<'static, Result<Entry>> {
    let batches = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|batch| (batch, receiver))
    });
    let items = batches.flat_map(|batch| match batch {
        Ok(batch) => stream::iter(batch).map(Ok).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    let end = ended.into_stream().filter_map(|end| async { end.err().map(Err) });
    items.chain(end).boxed()
}

/// Whether the walk goes on.
type Goes = Result<bool>;

struct Walk<'a> {
    inner: &'a Inner,
    prefix: Key,
    how: List,
    sender: &'a mpsc::Sender<Batch>,
    batch: Vec<Entry>,
    stack: Vec<Frame>,
}

/// One directory on the way down.
struct Frame {
    directory: OwnedFd,
    identity: (u64, u64),
    /// The key prefix of what is in it.
    prefix: String,
    page: Page,
    next: usize,
}

impl<'a> Walk<'a> {
    fn new(inner: &'a Inner, prefix: Key, how: List, sender: &'a mpsc::Sender<Batch>) -> Self {
        Self { inner, prefix, how, sender, batch: Vec::new(), stack: Vec::new() }
    }

    fn run(&mut self) -> Goes {
        let path = names::folder(&self.inner.root, &self.prefix)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => self.enter(directory, self.prefix.as_str().to_owned())?,
            Err(error) => {
                return match self.inner.failed("list", &path, error.into()) {
                    // A prefix that holds nothing lists as empty.
                    missing if missing.kind() == Kind::NotFound => Ok(true),
                    error => Err(error),
                };
            }
        }
        while let Some(frame) = self.stack.last_mut() {
            if frame.next < frame.page.len() {
                let name = frame.page.get(frame.next).to_vec();
                frame.next += 1;
                if !self.visit(&name)? {
                    return Ok(false);
                }
            } else if frame.page.is_last() {
                self.stack.pop();
            } else {
                let last = frame.page.get(frame.page.len() - 1).to_vec();
                let (fd, prefix) = (frame.directory.as_fd(), frame.prefix.clone());
                let page = read_page(self.inner, fd, &prefix, Some(&last))?;
                (frame.page, frame.next) = (page, 0);
            }
        }
        Ok(true)
    }

    fn enter(&mut self, directory: OwnedFd, prefix: String) -> Result<()> {
        let found = rustix::fs::fstat(&directory).map_err(|error| cannot_list(&prefix, error))?;
        let identity = (found.st_dev, found.st_ino);
        if self.stack.iter().any(|frame| frame.identity == identity) {
            log::warn!("the folder {prefix:?} is a link to one that contains it; skipped");
            return Ok(());
        }
        let page = read_page(self.inner, directory.as_fd(), &prefix, None)?;
        self.stack.push(Frame { directory, identity, prefix, page, next: 0 });
        Ok(())
    }

    /// One name of the topmost directory.
    fn visit(&mut self, name: &[u8]) -> Goes {
        let Some(frame) = self.stack.last() else { return Ok(true) };
        let Ok(text) = std::str::from_utf8(name) else {
            warn_of_bytes(&frame.prefix, name);
            return Ok(true);
        };
        let key = Key::foreign(format!("{}{text}", frame.prefix));
        let after = self.how.after.as_ref().map_or("", Key::as_str);
        if let Some(folder) = text.strip_suffix('/') {
            let reaches_into = self.how.recursive && after.starts_with(key.as_str());
            if key.as_str() <= after && !reaches_into {
                return Ok(true);
            }
            let Some(child) = open_directory(&frame.directory, folder, key.as_str())? else {
                return Ok(true);
            };
            if self.how.recursive {
                self.enter(child, key.as_str().to_owned())?;
                return Ok(true);
            }
            let ancestors = [frame.identity];
            return if shows(&child, &ancestors)? {
                Ok(self.give(Entry::Prefix(key)))
            } else {
                Ok(true)
            };
        }
        if key.as_str() <= after {
            return Ok(true);
        }
        match rustix::fs::statat(&frame.directory, text, AtFlags::empty()) {
            Ok(found) if is_file(&found) => {
                let meta = names::meta(
                    found.st_size as u64,
                    found.st_mtime,
                    found.st_mtime_nsec as u32,
                    found.st_ino,
                );
                Ok(self.give(Entry::Object(key, meta)))
            }
            // Removed since its directory was read, a broken link, or a socket.
            Ok(_) | Err(Errno::NOENT | Errno::LOOP) => Ok(true),
            Err(error) => Err(Error::io(format!("cannot look up {key}"), error.into())),
        }
    }

    fn give(&mut self, entry: Entry) -> bool {
        self.batch.push(entry);
        if self.batch.len() < BATCH { true } else { self.send() }
    }

    fn send(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        batch.is_empty() || self.sender.blocking_send(Ok(batch)).is_ok()
    }
}

fn is_file(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
}

fn cannot_list(prefix: &str, error: Errno) -> Error {
    Error::io(format!("cannot list the folder {prefix:?}"), io::Error::from(error))
}

/// Opens a directory; `None` if it vanished.
fn open_directory(parent: &OwnedFd, name: &str, prefix: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        // What mkfs leaves in the root of a file system is nobody's archive.
        Err(Errno::ACCESS) if name == "lost+found" => Ok(None),
        Err(error) => Err(cannot_list(prefix, error)),
    }
}

/// The next page of names of a directory: those greater than `after`.
fn read_page(
    inner: &Inner,
    directory: impl AsFd,
    prefix: &str,
    after: Option<&[u8]>,
) -> Result<Page> {
    let failed = |error| cannot_list(prefix, error);
    let mut page = Page::new(&inner.budget);
    let mut entries = Dir::read_from(&directory).map_err(failed)?;
    entries.rewind();
    while let Some(entry) = entries.read() {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory was removed while it was being read.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(failed(error)),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Some(is_directory) = kind(&directory, name, entry.file_type()) else { continue };
        if is_directory || !names::is_temporary(name.to_bytes()) {
            let is_new =
                after.is_none_or(|after| compare(name.to_bytes(), is_directory, after).is_gt());
            if is_new {
                page.offer(name.to_bytes(), is_directory);
            }
        }
    }
    page.sort();
    Ok(page)
}

/// Whether a name is a directory (`true`), a file or something unknown
/// (`false`), or neither (`None`). Links count as what they lead to.
fn kind(directory: impl AsFd, name: &CStr, told: FileType) -> Option<bool> {
    let kind = match told {
        FileType::Symlink | FileType::Unknown => {
            let found = rustix::fs::statat(directory, name, AtFlags::empty()).ok()?;
            FileType::from_raw_mode(found.st_mode)
        }
        told => told,
    };
    match kind {
        FileType::Directory => Some(true),
        FileType::RegularFile => Some(false),
        _ => None,
    }
}

/// Whether there is an object somewhere below `directory`. Empty directories
/// are what writers that were killed leave; a store of objects has no such thing.
fn shows(directory: &OwnedFd, ancestors: &[(u64, u64)]) -> Result<bool> {
    let failed = |error| cannot_list("below a folder", error);
    let found = rustix::fs::fstat(directory).map_err(failed)?;
    let identity = (found.st_dev, found.st_ino);
    if ancestors.contains(&identity) {
        return Ok(false);
    }
    let mut folders: Vec<CString> = Vec::new();
    let mut entries = Dir::read_from(directory).map_err(failed)?;
    while let Some(entry) = entries.read() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT) => break,
            Err(error) => return Err(failed(error)),
        };
        let name = entry.file_name();
        match kind(directory, name, entry.file_type()) {
            Some(false) if !names::is_temporary(name.to_bytes()) => return Ok(true),
            Some(true) if !matches!(name.to_bytes(), b"." | b"..") => folders.push(name.to_owned()),
            _ => {}
        }
    }
    drop(entries);
    let mut below = ancestors.to_vec();
    below.push(identity);
    for folder in folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, &folder, flags, Mode::empty()) {
            Ok(child) if shows(&child, &below)? => return Ok(true),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            // What cannot be looked into may hold something.
            Err(Errno::ACCESS) => return Ok(true),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(false)
}

/// Says once per process that a name cannot be a key.
fn warn_of_bytes(prefix: &str, name: &[u8]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        log::warn!(
            "{prefix:?}{:?} is not UTF-8 and is skipped, as are all such names",
            String::from_utf8_lossy(name)
        );
    }
}
