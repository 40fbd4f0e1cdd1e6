//! Between blocking threads and the runtime: a producer that writes becomes the
//! body of an upload, an object becomes a reader.
//!
//! Bytes move in chunks of a [`Pool`], so a slow store holds the producer back
//! and a slow consumer holds the download back. A producer that fails makes the
//! body end with its error, so the store aborts.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};

use super::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::memory::{Chunk, Pool};
use crate::storage::{Body, ByteStream, Object};

/// The stack of a codec thread in bytes: small, because virtual memory counts.
pub const STACK: usize = 256 << 10;

/// Runs `work` on a thread of its own and waits for it without blocking the
/// runtime. A panic becomes an error.
pub async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn(name, work)?.await
}

/// As [`blocking`], started at once: awaiting the result may come later.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<impl Future<Output = Result<T>> + Send + 'static> {
    let (done, result) = oneshot::channel();
    let alive = Alive::new();
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(move || {
            drop(done.send(work()));
            drop(alive);
        })
        .map_err(|error| Error::io("cannot start a thread", error))?;
    let name = name.to_owned();
    Ok(async move {
        result.await.unwrap_or_else(|_| {
            Err(Error::new(Kind::Internal, format!("the {name} thread ended without a result")))
        })
    })
}

static THREADS: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

fn threads() -> MutexGuard<'static, usize> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one thread for as long as it runs.
struct Alive;

impl Alive {
    fn new() -> Self {
        *threads() += 1;
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *threads() -= 1;
        ENDED.notify_all();
    }
}

/// Waits until every thread of [`spawn`] has ended, and at most for `limit`;
/// says whether they have. For the end of a process whose futures were dropped:
/// the threads then see that nobody waits for them and remove what they began.
pub fn settle(limit: Duration) -> bool {
    let waited = ENDED.wait_timeout_while(threads(), limit, |alive| *alive > 0);
    waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
}

/// A body of what `produce` writes, compressed and encrypted by `pipeline`.
///
/// `produce` runs on a thread of its own, once for each time the body is read,
/// so retry may repeat the upload. If it fails, the body ends with its error and
/// the store aborts; if the store fails, the producer's next write fails.
pub fn body(
    pipeline: &Pipeline,
    pool: &Pool,
    produce: impl Fn(&mut dyn Write) -> Result<()> + Send + Sync + 'static,
) -> Body {
    let (pipeline, pool, produce) = (pipeline.clone(), pool.clone(), Arc::new(produce));
    Body::again(None, move || {
        let produce = Arc::clone(&produce);
        produced(&pipeline, &pool, move |to| produce(to)).0
    })
}

/// As [`body`], for a producer that runs once and has a result. The result is
/// known when the body has ended.
pub fn body_once<T: Send + 'static>(
    pipeline: &Pipeline,
    pool: &Pool,
    produce: impl FnOnce(&mut dyn Write) -> Result<T> + Send + 'static,
) -> (Body, oneshot::Receiver<T>) {
    let (stream, result) = produced(pipeline, pool, produce);
    (Body::stream(None, stream), result)
}

fn produced<T: Send + 'static>(
    pipeline: &Pipeline,
    pool: &Pool,
    produce: impl FnOnce(&mut dyn Write) -> Result<T> + Send + 'static,
) -> (ByteStream, oneshot::Receiver<T>) {
    let (sender, receiver) = mpsc::channel(1);
    let (done, result) = oneshot::channel();
    let (pipeline, pool) = (pipeline.clone(), pool.clone());
    let work = move || {
        let mut encoder = pipeline.encoder(ChunkWriter::new(pool, sender))?;
        let value = produce(&mut encoder)?;
        encoder.finish()?;
        drop(done.send(value));
        Ok(())
    };
    (stream_of(receiver, work), result)
}

/// A body of exactly what `produce` writes, for documents that are neither
/// compressed nor encrypted.
pub fn plain_once<T: Send + 'static>(
    pool: &Pool,
    produce: impl FnOnce(&mut ChunkWriter) -> Result<T> + Send + 'static,
) -> (Body, oneshot::Receiver<T>) {
    let (sender, receiver) = mpsc::channel(1);
    let (done, result) = oneshot::channel();
    let mut writer = ChunkWriter::new(pool.clone(), sender);
    let work = move || {
        let value = produce(&mut writer)?;
        writer.flush()?;
        drop(done.send(value));
        Ok(())
    };
    (Body::stream(None, stream_of(receiver, work)), result)
}

fn stream_of(
    receiver: mpsc::Receiver<Result<Bytes>>,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> ByteStream {
    // The last item tells the store whether the end of the stream is the end of
    // the object: a body that just stops would be taken for a whole one.
    match spawn("encode", work) {
        Ok(finished) => chunks(receiver)
            .chain(stream::once(finished).filter_map(|end| async { end.err().map(Err) }))
            .boxed(),
        Err(error) => stream::iter([Err(error)]).boxed(),
    }
}

fn chunks(receiver: mpsc::Receiver<Result<Bytes>>) -> ByteStream {
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
    })
    .boxed()
}

/// Reads `object` through `pipeline` with `consume`, on a thread of its own. The
/// whole object must be consumed: bytes left over are an error.
pub async fn download<T: Send + 'static>(
    object: Object,
    pipeline: Pipeline,
    consume: impl FnOnce(&mut dyn Read) -> Result<T> + Send + 'static,
) -> Result<T> {
    read(object, move |from: &mut ChunkReader| {
        let mut reader = pipeline.decoder(from)?;
        let value = consume(&mut reader)?;
        // The decoder must reach its own end: checksums are there.
        match io::copy(&mut reader, &mut io::sink())? {
            0 => Ok(value),
            more => {
                Err(Error::new(Kind::Corrupt, format!("{more} bytes follow the end of the data")))
            }
        }
    })
    .await
}

/// Reads the bytes of `object` as they are with `consume`, on a thread of its own.
pub async fn read<T: Send + 'static>(
    object: Object,
    consume: impl FnOnce(&mut ChunkReader) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel(2);
    let consumed = spawn("decode", move || consume(&mut ChunkReader::new(receiver)))?;
    let mut body = object.body;
    let feed = async move {
        while let Some(chunk) = body.next().await {
            let failed = chunk.is_err();
            if sender.send(chunk).await.is_err() || failed {
                break;
            }
        }
    };
    let (value, ()) = futures_util::join!(consumed, feed);
    value
}

/// Collects what is written into chunks and sends each as soon as it is full.
pub struct ChunkWriter {
    pool: Pool,
    chunk: Option<Chunk>,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl ChunkWriter {
    /// A writer of chunks out of `pool`. Dropping it without `flush` loses the
    /// last chunk, which is what a failed producer wants.
    pub fn new(pool: Pool, sender: mpsc::Sender<Result<Bytes>>) -> Self {
        Self { pool, chunk: None, sender }
    }

    fn send(&mut self) -> io::Result<()> {
        match self.chunk.take() {
            Some(chunk) if !chunk.is_empty() => {
                self.sender.blocking_send(Ok(chunk.freeze())).map_err(|_| {
                    Error::new(Kind::Internal, "the upload ended before its body did").into()
                })
            }
            _ => Ok(()),
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let chunk = match &mut self.chunk {
            Some(chunk) => chunk,
            none => none.insert(self.pool.take_blocking()?),
        };
        let taken = chunk.fill(data);
        if chunk.is_full() {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Reads the chunks of a download; an error of the store becomes an error of
/// `read`.
pub struct ChunkReader {
    receiver: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl ChunkReader {
    /// A reader of what `receiver` brings.
    pub fn new(receiver: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self { receiver, current: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let taken = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}
