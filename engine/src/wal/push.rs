//! `wal-push`: one WAL file into the archive.
//!
//! Ok means stored and durable. What is already stored is never replaced by
//! other bytes where the guard is on: always for history files, and for all
//! files with `WALG_PREVENT_WAL_OVERWRITE`. The guard is a conditional create,
//! so two pushes at once cannot both win.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::archive::{self, Archived};
use super::{ahead, check, marker, metadata};
use crate::codec::transfer;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::WalFile;
use crate::layout::names;
use crate::memory::Pool;
use crate::storage::Put;

/// Archives the file at `path`, and meanwhile the ready files beside it. Ok
/// means that the file at `path` is stored and durable.
pub async fn push(context: &Context, path: &Path) -> Result<()> {
    let name = file_name(path)?;
    if marker::take(context, path, name).await? {
        log::info!("{name} was archived ahead of time");
        return metadata::push(context, path, name).await;
    }
    log::info!("Files will be uploaded to storage: {}", context.store_name());
    let pool = context.upload_pool()?;
    let done = AtomicBool::new(false);
    let asked = async {
        let pushed = push_one(context, path, name, &pool).await;
        done.store(true, Ordering::Relaxed);
        pushed
    };
    let ((), pushed) = futures_util::join!(ahead::push(context, path, name, &done), asked);
    pushed?;
    metadata::push(context, path, name).await
}

/// Archives one file, without looking at others.
pub(super) async fn push_one(
    context: &Context,
    path: &Path,
    name: &str,
    pool: &Pool,
) -> Result<()> {
    check::before_push(context, path, name).await?;
    let guarded = matches!(
        WalFile::classify(name, super::segment_size(&context.settings)),
        WalFile::History(_)
    ) || context.settings.flag("WALG_PREVENT_WAL_OVERWRITE");
    if guarded && let Some(stored) = archive::open(context, name).await? {
        return compare(stored, path, name).await;
    }
    let pipeline = context.codecs.writer();
    let key = names::wal(name, pipeline.extension());
    log::info!("FILE PATH: {key}");
    let source = path.to_owned();
    let body = transfer::body(&pipeline, pool, move |to| copy_file(&source, to));
    let how =
        Put { if_absent: guarded && context.store.limits().create_if_absent, ..context.put(pool) };
    match context.store.put(&key, body, how).await {
        Ok(stored) => {
            log::debug!("{key}: {} bytes stored", stored.size);
            Ok(())
        }
        // Another push was faster: it is the same file, or a conflict.
        Err(error) if guarded && error.kind() == Kind::AlreadyExists => {
            match archive::open(context, name).await? {
                Some(stored) => compare(stored, path, name).await,
                None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// The file name of a path; WAL file names are plain ASCII.
fn file_name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("{} is not the path of a WAL file", path.display()))
    })?;
    archive::checked_name(name)
}

/// Opens a local WAL file, with an error that says which.
pub(super) fn open_file(path: &Path) -> Result<File> {
    let file = File::open(path)
        .map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
    let meta = file
        .metadata()
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    if !meta.is_file() {
        return Err(Error::new(Kind::Invalid, format!("{} is not a file", path.display())));
    }
    Ok(file)
}

fn copy_file(path: &Path, to: &mut dyn Write) -> Result<()> {
    let mut file = open_file(path)?;
    let expected = file.metadata().map_err(|error| read_error(path, error))?.len();
    let mut buffer = vec![0; 128 << 10];
    let mut copied = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(path, error)),
        };
        to.write_all(&buffer[..read])?;
        copied += read as u64;
    }
    if copied == expected {
        return Ok(());
    }
    Err(Error::new(
        Kind::Changed,
        format!("{} changed while it was read: {expected} bytes became {copied}", path.display()),
    ))
}

fn read_error(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
}

/// The file is archived already: success if it is the same, an error otherwise.
async fn compare(stored: Archived, path: &Path, name: &str) -> Result<()> {
    let key = stored.key.clone();
    let local: PathBuf = path.to_owned();
    let same = transfer::download(stored.object, stored.pipeline, move |archived| {
        let mut local_file = open_file(&local)?;
        same_bytes(archived, &mut local_file)
            .map_err(|error| Error::io(format!("cannot compare {}", local.display()), error))
    })
    .await
    .map_err(|error| error.context(format!("{key} exists and cannot be compared with {name}")))?;
    if same {
        log::info!("{key} is archived already, with the same content");
        return Ok(());
    }
    Err(Error::new(Kind::AlreadyExists, format!("{key} is archived already, with other content"))
        .with_hint(
            "Two clusters may archive to the same place, or this one was restored and writes its history again. \
             Give each cluster a prefix of its own; the archived file was not touched.",
        ))
}

/// Whether two readers give the same bytes. Reads the first to its end, since
/// its checksum is there.
fn same_bytes(mut one: &mut dyn Read, two: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = read_full(&mut one, &mut left)?;
        let other = read_full(two, &mut right)?;
        if left[..read] != right[..other] {
            io::copy(&mut one, &mut io::sink())?;
            return Ok(false);
        }
        if read < left.len() {
            return Ok(true);
        }
    }
}

/// Fills the buffer as far as the reader goes.
pub(super) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
