//! The HTTP client that the stores of clouds share: HTTP/1.1 over TCP or rustls
//! with ring, proxies of the environment, one small pool of connections. It has
//! no deadline on a body and never retries.

mod connect;
mod failure;
#[cfg(any(feature = "azure", feature = "gcs"))]
#[cfg_attr(not(feature = "gcs"), allow(dead_code))] // blocks of Azure do not say where they begin
pub(crate) mod parts;
#[cfg(any(feature = "azure", feature = "gcs"))]
pub(crate) mod token;
#[cfg(any(feature = "azure", feature = "gcs"))]
pub(crate) mod trouble;
#[cfg(any(feature = "azure", feature = "gcs"))]
pub(crate) mod uri;
#[cfg(any(feature = "azure", feature = "s3"))]
pub(crate) mod xml;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::ByteStream;

use connect::Connector;
pub use failure::Failure;

/// The bytes that one connection reads at a time.
const READ_BUFFER: usize = 128 << 10;

/// The body of a request: chunks in memory, shared and never copied, so that a
/// request can be sent again.
#[derive(Clone, Default)]
pub struct Chunks {
    list: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Chunks {
    /// A body of these chunks, in this order.
    pub fn new(list: impl Into<Arc<[Bytes]>>) -> Self {
        let list = list.into();
        let left = list.iter().map(|chunk| chunk.len() as u64).sum();
        Self { list, next: 0, left }
    }

    /// The bytes that are still to be sent.
    pub fn size(&self) -> u64 {
        self.left
    }

    /// The same without its first `bytes`.
    #[cfg(feature = "gcs")]
    pub(crate) fn skip(&self, mut bytes: u64) -> Self {
        let mut list = Vec::with_capacity(self.list.len());
        for chunk in self.list.iter() {
            let gone = bytes.min(chunk.len() as u64);
            bytes -= gone;
            if gone < chunk.len() as u64 {
                list.push(chunk.slice(gone as usize..));
            }
        }
        Self::new(list)
    }

    /// The chunks.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.list.iter()
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        Self::new(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
    }
}

impl From<String> for Chunks {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunks({} bytes)", self.left)
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(chunk) = self.list.get(self.next).cloned() else {
            return Poll::Ready(None);
        };
        self.next += 1;
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A request with its body in memory.
pub type Request = http::Request<Chunks>;
/// A response whose body is still to come.
pub type Response = http::Response<Incoming>;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files of PEM certificates that are trusted besides those of the system.
    pub ca_files: Vec<PathBuf>,
    /// The longest time to a usable connection, TLS included.
    pub connect_timeout: Duration,
    /// The most idle connections that are kept.
    pub idle: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ca_files: Vec::new(), connect_timeout: Duration::from_secs(10), idle: 4 }
    }
}

/// A client with its pool of connections. Cloning shares the pool.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Connector, Chunks>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("http::Client")
    }
}

impl Client {
    /// A client. Fails with [`Kind::Config`] if a certificate file cannot be read.
    pub fn new(options: &Options) -> Result<Self> {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(options.idle.max(1))
            .http1_read_buf_exact_size(READ_BUFFER)
            .build(Connector::new(options)?);
        Ok(Self { inner })
    }

    /// Sends `request` and waits for the head of the response, whatever its status.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
        self.inner.request(request).await.map_err(|error| Failure::of_request(&error, &host))
    }
}

/// The body of `response` as a stream that must carry exactly `size` bytes; one
/// that ends sooner yields an error of [`Class::Transient`].
pub fn stream_of(response: Response, size: u64) -> ByteStream {
    let data = response
        .into_body()
        .into_data_stream()
        .map(|chunk| chunk.map_err(|error| failure::of_body(&error)));
    stream::try_unfold((data, size), |(mut data, left)| async move {
        match data.try_next().await? {
            Some(chunk) if chunk.len() as u64 > left => {
                Err(Error::new(Kind::Corrupt, "the response goes on past its announced size"))
            }
            Some(chunk) => {
                let left = left - chunk.len() as u64;
                Ok(Some((chunk, (data, left))))
            }
            None if left == 0 => Ok(None),
            None => Err(failure::cut_short(left)),
        }
    })
    .boxed()
}

/// Reads a whole response of at most `limit` bytes: documents, never objects.
pub async fn read(response: Response, limit: usize) -> Result<Vec<u8>> {
    let mut data = response.into_body().into_data_stream();
    let mut all = Vec::new();
    while let Some(chunk) = data.next().await {
        let chunk = chunk.map_err(|error| failure::of_body(&error))?;
        if all.len() + chunk.len() > limit {
            return Err(Error::new(
                Kind::Corrupt,
                format!("the response is longer than {limit} bytes"),
            )
            .with_class(Class::Never));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The range that an answer carries, and the size of the whole object; it must
/// be the range that was asked for.
#[cfg(any(feature = "azure", feature = "gcs"))]
pub(crate) fn opened(
    status: http::StatusCode,
    headers: &http::HeaderMap,
    how: &walport_engine::storage::Get,
) -> Result<(std::ops::Range<u64>, u64)> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
            .unwrap_or_default()
    };
    let corrupt = |message| Error::new(Kind::Corrupt, message);
    if status != http::StatusCode::PARTIAL_CONTENT {
        let total = text(http::header::CONTENT_LENGTH)
            .parse()
            .map_err(|_| corrupt("the store answered without the object's size".to_owned()))?;
        let range = how.within(total)?;
        if range != (0..total) {
            return Err(Error::new(Kind::Unsupported, "the store does not give ranges of objects"));
        }
        return Ok((range, total));
    }
    let told = text(http::header::CONTENT_RANGE);
    let parsed = told.strip_prefix("bytes ").and_then(|rest| {
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((
            first.parse::<u64>().ok()?..last.parse::<u64>().ok()?.checked_add(1)?,
            total.parse::<u64>().ok()?,
        ))
    });
    let Some((range, total)) = parsed else {
        return Err(corrupt(format!("the store answered with the range {told:?}")));
    };
    let wanted = how.within(total)?;
    if range != wanted {
        return Err(corrupt(format!(
            "the store answered with the range {told:?} instead of {wanted:?}"
        )));
    }
    Ok((range, total))
}
