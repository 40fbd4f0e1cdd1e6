//! `wal-fetch`: one WAL file out of the archive.
//!
//! The destination appears whole or not at all: the file is written without a
//! name and linked in when it is complete. PostgreSQL syncs a restored segment
//! itself before it relies on it, and asks again after a crash, so nothing is
//! synced here.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::archive::{self, Archived};
use super::prefetch;
use crate::codec::transfer;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::WalFile;

/// What became of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file is at its destination.
    Found,
    /// No used storage has it, under any codec. Exit 74.
    Missing,
}

/// Fetches `name` to `destination`, which must not exist; from the prefetch
/// folder if it is there already.
pub async fn fetch(context: &Context, name: &str, destination: &Path) -> Result<Fetched> {
    let name = archive::checked_name(name)?;
    if fs::symlink_metadata(destination).is_ok() {
        return Err(exists(destination));
    }
    if prefetch::take(context, name, destination).await? {
        return Ok(Fetched::Found);
    }
    let Some(archived) = archive::open(context, name).await? else {
        return Ok(Fetched::Missing);
    };
    let destination = destination.to_owned();
    write(archived, name, move || NewFile::create(&destination)).await?;
    Ok(Fetched::Found)
}

fn exists(destination: &Path) -> Error {
    Error::new(Kind::AlreadyExists, format!("{}: file exists", destination.display()))
        .with_hint("wal-fetch never overwrites; remove the file or choose another destination.")
}

/// Decodes `archived` into the file that `create` makes.
pub(super) async fn write(
    archived: Archived,
    name: &str,
    create: impl FnOnce() -> Result<NewFile> + Send + 'static,
) -> Result<()> {
    let key = archived.key.clone();
    let name = name.to_owned();
    transfer::download(archived.object, archived.pipeline, move |from| copy(from, create()?, &name))
        .await
        .map_err(|error| if error.key().is_some() { error } else { error.with_key(key) })
}

fn copy(from: &mut dyn Read, mut file: NewFile, name: &str) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    let mut expected = None;
    loop {
        let read = super::push::read_full(&mut { &mut *from }, &mut buffer)?;
        if size == 0 && is_segment(name) {
            expected = segment_size(&buffer[..read]);
        }
        file.file.write_all(&buffer[..read]).map_err(|error| file.error("cannot write", error))?;
        size += read as u64;
        if read < buffer.len() {
            break;
        }
    }
    // PostgreSQL itself refuses a segment of the wrong size, but takes that for
    // the end of the archive.
    let wrong = match expected {
        Some(expected) if expected != size => format!("but its header says {expected}"),
        // Too short for a header, or not one of PostgreSQL: any size of a segment will do.
        None if is_segment(name) && !(size >= 1 << 20 && size.is_power_of_two()) => {
            "which is no size of a segment".to_owned()
        }
        _ => return file.publish(),
    };
    Err(Error::new(Kind::Corrupt, format!("{name} has {size} bytes, {wrong}")).with_hint(
        "The archived object is not a whole segment; restore it from another copy of the archive.",
    ))
}

/// Whether a name is that of a whole segment, of whatever size.
fn is_segment(name: &str) -> bool {
    matches!(WalFile::classify(name, 1 << 20), WalFile::Segment(_))
}

/// The segment size that the long header of a first page records.
pub(super) fn segment_size(page: &[u8]) -> Option<u64> {
    let magic = u16::from_le_bytes([*page.first()?, *page.get(1)?]);
    let info = u16::from_le_bytes([*page.get(2)?, *page.get(3)?]);
    let size = u32::from_le_bytes(page.get(32..36)?.try_into().ok()?);
    let plausible = magic >= 0xD061 && info & 2 != 0 && size.is_power_of_two() && size >= 1 << 20;
    plausible.then_some(u64::from(size))
}

/// A file without a name, until it is complete.
pub(super) struct NewFile {
    file: File,
    /// Set where the file system cannot make files without a name.
    temporary: Option<PathBuf>,
    destination: PathBuf,
}

impl NewFile {
    /// Makes one that will become `destination`.
    pub(super) fn create(destination: &Path) -> Result<Self> {
        let folder = folder_of(destination);
        let mode = Mode::from_raw_mode(0o600);
        match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
            Ok(fd) => {
                Ok(Self { file: fd.into(), temporary: None, destination: destination.to_owned() })
            }
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL,
            ) => Self::create_named(destination),
            Err(error) => {
                Err(Error::io(format!("cannot create {}", destination.display()), error.into()))
            }
        }
    }

    fn create_named(destination: &Path) -> Result<Self> {
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let temporary =
            destination.with_file_name(format!(".{name}.walport.{:016x}", fastrand::u64(..)));
        Self::create_as(temporary, destination)
    }

    /// Makes one that is called `temporary` until then; it must not exist.
    pub(super) fn create_as(temporary: PathBuf, destination: &Path) -> Result<Self> {
        let file = File::create_new(&temporary)
            .map_err(|error| Error::io(format!("cannot create {}", temporary.display()), error))?;
        Ok(Self { file, temporary: Some(temporary), destination: destination.to_owned() })
    }

    fn error(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("{what} {}", self.destination.display()), error)
    }

    /// Gives the file its name, which must be free.
    pub(super) fn publish(self) -> Result<()> {
        let linked = match &self.temporary {
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, unnamed, CWD, &self.destination, AtFlags::SYMLINK_FOLLOW)
            }
            Some(temporary) => {
                rustix::fs::linkat(CWD, temporary, CWD, &self.destination, AtFlags::empty())
            }
        };
        match linked {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(&self.destination)),
            Err(error) => return Err(self.error("cannot create", error.into())),
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            drop(fs::remove_file(temporary));
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
