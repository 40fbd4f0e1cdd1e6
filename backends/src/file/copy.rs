//! Copying: by reference or inside the kernel where the file system can.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use walport_engine::codec::transfer::blocking;
use walport_engine::memory::CHUNK;
use walport_engine::storage::{Activity, Error, Get, Key, Kind, Result, Stored};

use super::names;
use super::put::Temporary;
use super::store::Inner;

/// The bytes copied between two looks at whether the copy is still wanted.
const STEP: u64 = 8 << 20;

/// Set when the future of a copy is dropped, which stops its thread.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies `from` to `to`, replacing what is there.
pub(super) async fn copy(inner: &Arc<Inner>, from: &Key, to: &Key) -> Result<Stored> {
    let target = names::object(&inner.root, to)?;
    let abandoned = Abandoned(Arc::default());
    let stop = Arc::clone(&abandoned.0);
    let (shared, from) = (Arc::clone(inner), from.clone());
    blocking("file-copy", move || {
        let source = shared.readable(&from)?;
        run(&shared, &source, &target, &stop)
    })
    .await
}

fn run(inner: &Inner, source: &Path, target: &Path, stop: &AtomicBool) -> Result<Stored> {
    inner.stat(source)?;
    let file = File::open(source).map_err(|error| inner.failed("open", source, error))?;
    let failed = |error| inner.failed("read", source, error);
    let before = names::meta_of(&file.metadata().map_err(failed)?);
    let mut temporary = Temporary::create(inner, target)?;
    if rustix::fs::ioctl_ficlone(temporary.file(), &file).is_ok() {
        temporary.grown(before.size);
    } else {
        transfer(inner, &file, &mut temporary, before.size, stop)
            .map_err(|error| error.context("cannot copy"))?;
    }
    let after = names::meta_of(&file.metadata().map_err(failed)?);
    let pinned = Get { range: None, version: before.version };
    pinned.check_version(after.version.as_deref())?;
    temporary.sync(&Activity::default())?;
    temporary.publish(inner, target, false)
}

/// Copies `size` bytes inside the kernel, or through this process where the
/// kernel cannot.
fn transfer(
    inner: &Inner,
    mut from: &File,
    to: &mut Temporary<'_>,
    size: u64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut done = 0;
    let mut in_kernel = true;
    let mut buffer = Vec::new();
    let mut reservation = None;
    while done < size {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "the copy was abandoned"));
        }
        let left = (size - done).min(STEP);
        let moved = if in_kernel {
            match rustix::fs::copy_file_range(from, None, to.file(), None, left as usize) {
                Ok(moved) => {
                    to.grown(moved as u64);
                    moved
                }
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
                    if done == 0 =>
                {
                    in_kernel = false;
                    reservation = Some(inner.budget.reserve(CHUNK as u64, "copying a file")?);
                    buffer.resize(CHUNK, 0);
                    continue;
                }
                Err(error) => return Err(to.failed("write", error.into())),
            }
        } else {
            let wanted = (left as usize).min(buffer.len());
            let moved = from
                .read(&mut buffer[..wanted])
                .map_err(|error| Error::io("cannot read the source", error))?;
            to.write(&buffer[..moved])?;
            moved
        };
        if moved == 0 {
            return Err(Error::new(
                Kind::Changed,
                format!("the source ended at byte {done} of {size}"),
            ));
        }
        done += moved as u64;
    }
    drop(reservation);
    Ok(())
}
