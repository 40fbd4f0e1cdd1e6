//! Reading: many reads under way, given out in order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{StreamExt, future::BoxFuture};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use walport_engine::storage::{ByteStream, Error, Get, Key, Kind, Object, Result};

use super::connect::{BLOCK, Connection};
use super::errors;
use super::store::{SftpStore, meta};

pub(super) async fn get(store: &SftpStore, key: &Key, how: Get) -> Result<Object> {
    let path = store.path(key)?;
    let connection = store.connection().await?;
    let failed = |error| errors::sftp(error, "get", key);
    let handle = connection
        .sftp
        .open(path, OpenFlags::READ, FileAttributes::empty())
        .await
        .map_err(failed)?
        .handle;
    let file = Arc::new(Open { connection, handle });
    let attributes = file.connection.sftp.fstat(file.handle.clone()).await.map_err(failed)?.attrs;
    if !attributes.is_regular() {
        return Err(Error::new(Kind::NotFound, "there is no such object"));
    }
    let meta = meta(&attributes);
    if how.version.is_some() && how.version != meta.version {
        return Err(Error::new(Kind::Changed, "the object changed since it was first read"));
    }
    let range = match how.range {
        None => 0..meta.size,
        Some(range) if range.start > meta.size || range.start > range.end => {
            return Err(Error::new(
                Kind::Invalid,
                format!("the range begins past the end, which is at {} bytes", meta.size),
            ));
        }
        Some(range) => range.start..range.end.min(meta.size),
    };
    let body = read(file, range.clone(), store.config.requests, key.clone());
    Ok(Object { meta, range, body })
}

/// An open file of the server; closed when it is dropped.
struct Open {
    connection: Arc<Connection>,
    handle: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (connection, handle) = (Arc::clone(&self.connection), self.handle.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(connection.sftp.close(handle).await) });
        }
    }
}

struct Reading {
    file: Arc<Open>,
    flying: FuturesOrdered<BoxFuture<'static, Result<Bytes>>>,
    next: u64,
    end: u64,
    requests: usize,
    key: Key,
}

fn read(file: Arc<Open>, range: std::ops::Range<u64>, requests: usize, key: Key) -> ByteStream {
    let reading = Reading {
        file,
        flying: FuturesOrdered::new(),
        next: range.start,
        end: range.end,
        requests,
        key,
    };
    stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        reading.ask();
        match reading.flying.next().await {
            None => None,
            Some(Ok(bytes)) => Some((Ok(bytes), Some(reading))),
            Some(Err(error)) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Reading {
    /// Sends requests until enough are under way.
    fn ask(&mut self) {
        while self.next < self.end && self.flying.len() < self.requests {
            let length = (self.end - self.next).min(BLOCK as u64) as u32;
            self.flying.push_back(Box::pin(block(
                Arc::clone(&self.file),
                self.next,
                length,
                self.key.clone(),
            )));
            self.next += u64::from(length);
        }
    }
}

/// Reads exactly `length` bytes; a server may answer with fewer at a time.
async fn block(file: Arc<Open>, offset: u64, length: u32, key: Key) -> Result<Bytes> {
    let ask = |at: u64, length: u32| file.connection.sftp.read(file.handle.clone(), at, length);
    let short = || {
        Error::new(Kind::Corrupt, "the file became shorter while it was read")
            .with_op("get")
            .with_key(&key)
    };
    let mut data = Vec::new();
    while data.len() < length as usize {
        let left = length - data.len() as u32;
        match ask(offset + data.len() as u64, left).await {
            Ok(answer) if answer.data.is_empty() => return Err(short()),
            Ok(answer) if data.is_empty() => data = answer.data,
            Ok(answer) => data.extend_from_slice(&answer.data),
            Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                return Err(short());
            }
            Err(error) => return Err(errors::sftp(error, "get", &key)),
        }
    }
    Ok(Bytes::from(data))
}
