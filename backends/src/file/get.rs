//! Reading: one thread per open object, a chunk or two ahead of the reader.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, OFlags};
use tokio::sync::{mpsc, oneshot};
use walport_engine::codec::transfer::spawn;
use walport_engine::memory::{CHUNK, Pool};
use walport_engine::storage::body::exactly;
use walport_engine::storage::{Error, Get, Key, Kind, Meta, Object, Result};

use super::names;
use super::store::Inner;

/// Buffers of one open object: one being read into, one waiting, one in use.
const BUFFERS: u64 = 3;

/// Opens the object and starts reading it.
pub(super) async fn get(inner: &Arc<Inner>, key: &Key, how: Get) -> Result<Object> {
    let (opened, result) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(1);
    let (shared, name) = (Arc::clone(inner), key.clone());
    // The thread reports through the channels, so its own result is not awaited.
    drop(spawn("file-get", move || {
        match shared.readable(&name).and_then(|path| Reader::open(&shared, path, &how)) {
            Ok(reader) => {
                if opened.send(Ok((reader.meta.clone(), reader.range.clone()))).is_ok() {
                    reader.run(&sender);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        }
        Ok(())
    })?);
    let (meta, range) = result.await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Internal, "the reading thread ended without a result"))
    })?;
    let chunks = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Result<Bytes>>| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let body = exactly(range.end - range.start, chunks.boxed());
    let key = key.clone();
    let body =
        body.map(move |chunk| chunk.map_err(|error| error.with_op("get").with_key(&key))).boxed();
    Ok(Object { meta, range, body })
}

struct Reader {
    file: File,
    path: PathBuf,
    meta: Meta,
    range: Range<u64>,
    pool: Option<Pool>,
}

impl Reader {
    fn open(inner: &Inner, path: PathBuf, how: &Get) -> Result<Self> {
        // Without O_NONBLOCK, opening a named pipe would wait for its writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&path)
            .map_err(|error| inner.failed("open", &path, error))?;
        let found = file.metadata().map_err(|error| inner.failed("look up", &path, error))?;
        if !found.is_file() {
            return Err(inner.missing());
        }
        let meta = names::meta_of(&found);
        how.check_version(meta.version.as_deref())?;
        let range = how.within(meta.size)?;
        let length = range.end - range.start;
        let pool = if length == 0 { None } else { Some(pool(inner, length)?) };
        if length > CHUNK as u64 {
            let _ = rustix::fs::fadvise(file.as_fd(), range.start, None, Advice::Sequential);
        }
        Ok(Self { file, path, meta, range, pool })
    }

    fn run(mut self, sender: &mpsc::Sender<Result<Bytes>>) {
        while self.range.start < self.range.end {
            let chunk = self.next();
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Bytes> {
        // Whoever keeps chunks for longer than the next one (an upload in parts
        // does) keeps them in buffers of its own account, and reading goes on.
        let pooled = self.pool.as_ref().and_then(|pool| pool.take().now_or_never()).transpose()?;
        let left = self.range.end - self.range.start;
        let bytes = if let Some(mut chunk) = pooled {
            self.fill(chunk.buffer(), left)?;
            chunk.freeze()
        } else {
            let mut data = Vec::with_capacity(left.min(CHUNK as u64) as usize);
            self.fill(&mut data, left)?;
            data.into()
        };
        if self.range.start == self.range.end {
            self.check_unchanged()?;
        }
        Ok(bytes)
    }

    /// Fills `data` up to its capacity, but with no more than `left` bytes.
    fn fill(&mut self, data: &mut Vec<u8>, left: u64) -> Result<()> {
        let wanted = left.min(data.capacity() as u64) as usize;
        while data.len() < wanted {
            let offset = self.range.start + data.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(data), offset) {
                Ok(0) => {
                    return Err(Error::new(
                        Kind::Corrupt,
                        format!("the file ends at byte {offset}, but it had {} bytes when it was opened", self.meta.size),
                    )
                    .with_hint("Something cut the file while it was being read; check what else writes to the archive."));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Error::io(
                        format!("cannot read {}", self.path.display()),
                        error.into(),
                    ));
                }
            }
        }
        data.truncate(wanted);
        self.range.start += wanted as u64;
        Ok(())
    }

    /// Objects are replaced by renaming, which an open file does not notice; one
    /// that another program wrote over in place must not pass for whole.
    fn check_unchanged(&self) -> Result<()> {
        let now = self
            .file
            .metadata()
            .map_err(|error| Error::io(format!("cannot look up {}", self.path.display()), error))?;
        let pinned = Get { range: None, version: self.meta.version.clone() };
        pinned.check_version(names::meta_of(&now).version.as_deref())
    }
}

/// As many buffers as are of use and as the budget has, one at least.
fn pool(inner: &Inner, length: u64) -> Result<Pool> {
    let size = length.min(CHUNK as u64) as usize;
    let wanted = length.div_ceil(CHUNK as u64).min(BUFFERS) as usize;
    let what = "reading a file";
    (2..=wanted)
        .rev()
        .find_map(|count| Pool::new(&inner.budget, size, count, what).ok())
        .map_or_else(|| Pool::new(&inner.budget, size, 1, what), Ok)
}
