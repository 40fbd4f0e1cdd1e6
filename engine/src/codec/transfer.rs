//! Between blocking threads and the runtime: a producer that writes becomes the
//! body of an upload, an object becomes a reader.
//!
//! Bytes move in chunks of a [`Pool`], so a slow store holds the producer back
//! and a slow consumer holds the download back. A producer that fails makes the
//! body end with its error, so the store aborts.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, oneshot};

use super::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::memory::{Chunk, Pool};
use crate::storage::{Body, ByteStream, Key, Object, Put, Storage, Stored};

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
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(move || drop(done.send(work())))
        .map_err(|error| Error::io("cannot start a thread", error))?;
    let name = name.to_owned();
    Ok(async move {
        result.await.unwrap_or_else(|_| {
            Err(Error::new(Kind::Internal, format!("the {name} thread ended without a result")))
        })
    })
}

/// Stores what `produce` writes, compressed and encrypted by `pipeline`.
///
/// `produce` runs on a thread of its own. If it fails, the upload is aborted and
/// its error is the result; if the store fails, the producer's next write fails.
pub async fn upload<T: Send + 'static>(
    storage: &dyn Storage,
    key: &Key,
    how: Put,
    pipeline: Pipeline,
    pool: &Pool,
    produce: impl FnOnce(&mut dyn Write) -> Result<T> + Send + 'static,
) -> Result<(T, Stored)> {
    let (sender, body) = channel();
    let pool = pool.clone();
    let produced = spawn("encode", move || {
        let sender_of_errors = sender.clone();
        let run = move || {
            let mut encoder = pipeline.encoder(ChunkWriter::new(pool, sender))?;
            let value = produce(&mut encoder)?;
            encoder.finish()?;
            Ok(value)
        };
        run().inspect_err(|error: &Error| {
            // The store must see the failure, or it would take the end of the
            // stream for the end of the object.
            let told = Error::new(error.kind(), error.message()).with_class(error.class());
            drop(sender_of_errors.blocking_send(Err(told)));
        })
    })?;
    let stored = storage.put(key, Body::stream(None, body), how).await;
    let produced = produced.await;
    match (produced, stored) {
        (Ok(value), Ok(stored)) => Ok((value, stored)),
        // When the store fails, the producer only sees that nobody listens.
        (Err(error), Err(_)) if !is_hung_up(&error) => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

/// Reads `object` through `pipeline` with `consume`, on a thread of its own. The
/// whole object must be consumed: bytes left over are an error.
pub async fn download<T: Send + 'static>(
    object: Object,
    pipeline: Pipeline,
    consume: impl FnOnce(&mut dyn Read) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel(2);
    let consumed = spawn("decode", move || {
        let mut reader = pipeline.decoder(ChunkReader::new(receiver))?;
        let value = consume(&mut reader)?;
        // The decoder must reach its own end: checksums are there.
        match io::copy(&mut reader, &mut io::sink())? {
            0 => Ok(value),
            more => Err(Error::new(Kind::Corrupt, format!("{more} bytes follow the end of the data"))),
        }
    })?;
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

/// A channel whose far end is a body.
pub fn channel() -> (mpsc::Sender<Result<Bytes>>, ByteStream) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(1);
    let body: BoxStream<'static, _> =
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
            .boxed();
    (sender, body)
}

const HUNG_UP: &str = "the upload ended before its body did";

fn is_hung_up(error: &Error) -> bool {
    error.message() == HUNG_UP
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
            Some(chunk) if !chunk.is_empty() => self
                .sender
                .blocking_send(Ok(chunk.freeze()))
                .map_err(|_| Error::new(Kind::Internal, HUNG_UP).into()),
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
