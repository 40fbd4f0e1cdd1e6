//! Packing: entries become parts. One thread packs one part at a time: it reads
//! the files, checks their pages and writes the tar, while the codec and the
//! store work beside it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::catalog::{Catalog, FileLine};
use super::compose::{Item, Source};
use super::owners::Owners;
use super::pace::Pace;
use super::spill::Spill;
use super::walk::{Entry, What};
use crate::error::{Error, Result};
use crate::layout::tar::{self, Header, TarWriter};
use crate::postgres::page::{self, Verifier};
use crate::progress::Progress;

/// The bytes that are read from a file at a time.
const READ: usize = 256 << 10;

/// How page checksums are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verify {
    /// Bytes of a page.
    pub block_size: u32,
    /// Pages of one file of a relation.
    pub segment_blocks: u32,
    /// Where the backup began: a page changed since is replayed from WAL.
    pub start_lsn: crate::layout::Lsn,
    /// Keep every corrupt block number.
    pub all: bool,
}

/// What all threads of one backup share.
#[derive(Debug)]
pub(super) struct Job {
    /// The data directory.
    pub root: PathBuf,
    /// Where entries come from.
    pub source: Mutex<Source>,
    /// A part ends after the file that makes its payload larger than this.
    pub threshold: u64,
    /// Where files are recorded; `None` without `files_metadata.json`.
    pub catalog: Option<Catalog>,
    /// How pages are checked, if they are.
    pub verify: Option<Verify>,
    /// Limits the rate of reading.
    pub pace: Pace,
    /// Names of owners.
    pub owners: Owners,
    /// Bytes read so far.
    pub progress: Progress,
    /// Payload of all tars, in bytes.
    pub payload: AtomicI64,
    /// Pages whose checksum is wrong.
    pub corrupt: AtomicU64,
}

impl Job {
    /// The next entry; `None` at the end of a group or of everything.
    fn next_in_part(&self) -> Result<Option<Entry>> {
        match self.source.lock().unwrap_or_else(PoisonError::into_inner).next()? {
            Some(Item::Entry(entry)) => Ok(Some(entry)),
            Some(Item::Break) | None => Ok(None),
        }
    }

    /// The entry that begins a part; `None` when all is packed.
    pub(super) fn first_of_part(&self) -> Result<Option<Entry>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match source.next()? {
                Some(Item::Entry(entry)) => return Ok(Some(entry)),
                Some(Item::Break) => {}
                None => return Ok(None),
            }
        }
    }

    /// Writes one part, which begins with `first` and is called `name`.
    pub(super) fn pack(&self, name: &str, first: Entry, to: &mut dyn Write) -> Result<()> {
        let mut part = Part {
            job: self,
            tar: TarWriter::new(to),
            entries: self.catalog.as_ref().map(Catalog::part).transpose()?,
            buffer: vec![0; READ],
        };
        let mut payload = 0;
        let mut next = Some(first);
        while let Some(entry) = next {
            payload += part.add(&entry)?;
            next = if payload > self.threshold { None } else { self.next_in_part()? };
        }
        part.tar.finish()?;
        self.payload.fetch_add(payload as i64, Ordering::Relaxed);
        match (&self.catalog, part.entries) {
            (Some(catalog), Some(entries)) => catalog.end_part(name, entries),
            _ => Ok(()),
        }
    }

    /// Writes a tar of the one file `entry`.
    pub(super) fn pack_alone(&self, entry: &Entry, to: &mut dyn Write) -> Result<()> {
        let mut part =
            Part { job: self, tar: TarWriter::new(to), entries: None, buffer: vec![0; READ] };
        let path = self.path(entry);
        let mut file = File::open(&path).map_err(|error| cannot_read(&path, error))?;
        part.tar.append(&self.header(entry))?;
        part.copy(&path, &mut file, entry.size, None)?;
        part.tar.finish()?;
        self.payload.fetch_add(entry.size as i64, Ordering::Relaxed);
        Ok(())
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.name.trim_start_matches('/'))
    }

    fn header(&self, entry: &Entry) -> Header {
        let (seconds, nanoseconds) = entry.mtime;
        Header {
            name: entry.name.clone().into_bytes(),
            size: entry.size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            uname: self.owners.user(entry.uid).to_owned(),
            gname: self.owners.group(entry.gid).to_owned(),
            mtime: Header::round_mtime(seconds, nanoseconds),
            kind: match &entry.what {
                What::File => tar::Kind::File,
                What::Directory => tar::Kind::Directory,
                What::Link(target) => {
                    tar::Kind::Symlink { target: target.as_os_str().as_bytes().to_vec() }
                }
            },
        }
    }
}

struct Part<'a> {
    job: &'a Job,
    tar: TarWriter<&'a mut dyn Write>,
    entries: Option<Spill<String>>,
    buffer: Vec<u8>,
}

impl Part<'_> {
    /// Adds one entry and says how many bytes of payload that were.
    fn add(&mut self, entry: &Entry) -> Result<u64> {
        let mut corrupt = None;
        if entry.what == What::File {
            let path = self.job.path(entry);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                // Dropped since the walk: it is not part of the backup.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.job.progress.add_done(entry.size);
                    return Ok(0);
                }
                Err(error) => return Err(cannot_read(&path, error)),
            };
            self.tar.append(&self.job.header(entry))?;
            let verifier = self.job.verifier(entry, &file)?;
            corrupt = self.copy(&path, &mut file, entry.size, verifier)?;
        } else {
            self.tar.append(&self.job.header(entry))?;
        }
        self.record(entry, corrupt)?;
        Ok(entry.size)
    }

    fn record(&mut self, entry: &Entry, corrupt: Option<(u64, Vec<u32>)>) -> Result<()> {
        let (Some(catalog), Some(entries)) = (&self.job.catalog, &mut self.entries) else {
            return Ok(());
        };
        let updates =
            self.job.source.lock().unwrap_or_else(PoisonError::into_inner).updates(&entry.name);
        catalog.file(&FileLine {
            name: entry.name.clone(),
            mtime: entry.mtime,
            corrupt,
            updates,
        })?;
        entries.push(&entry.name)
    }

    /// Copies exactly `size` bytes: what grew meanwhile is cut, what shrank is
    /// filled with zeros, since WAL replay makes both whole.
    fn copy(
        &mut self,
        path: &Path,
        file: &mut File,
        size: u64,
        mut verifier: Option<Verifier>,
    ) -> Result<Option<(u64, Vec<u32>)>> {
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match file.read(&mut self.buffer[..want]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot_read(path, error)),
            };
            self.job.pace.wait(read as u64);
            if let Some(verifier) = &mut verifier {
                verifier.feed(&self.buffer[..read]);
            }
            self.tar.write_all(&self.buffer[..read])?;
            self.job.progress.add_done(read as u64);
            left -= read as u64;
        }
        if left > 0 {
            log::debug!("{} shrank by {left} bytes while it was read", path.display());
            self.tar.fill()?;
        }
        let Some(verifier) = verifier else { return Ok(None) };
        let found = verifier.finish();
        if found.count == 0 {
            return Ok(None);
        }
        log::warn!("{}: {} pages with a wrong checksum", path.display(), found.count);
        self.job.corrupt.fetch_add(found.count, Ordering::Relaxed);
        Ok(Some((found.count, found.blocks)))
    }
}

impl Job {
    /// A verifier for the pages of `entry`, if they are to be checked.
    fn verifier(&self, entry: &Entry, file: &File) -> Result<Option<Verifier>> {
        let Some(verify) = self.verify else { return Ok(None) };
        let (Some(segment), true) = (
            page::fork_segment(&entry.name),
            page::is_checksummed_file(&entry.name, entry.size, verify.block_size),
        ) else {
            return Ok(None);
        };
        let again = file.try_clone().map_err(|error| cannot_read(&self.path(entry), error))?;
        Ok(Some(Verifier::new(page::Options {
            segment,
            block_size: verify.block_size,
            segment_blocks: verify.segment_blocks,
            start: Some(verify.start_lsn),
            again: Some(again),
            all: verify.all,
        })))
    }
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
        .with_hint("Walport must run as the user that owns the data directory, normally postgres.")
}
