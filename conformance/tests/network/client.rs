//! A client of the small HTTP store, honest or with one flaw.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use walport_engine::storage::{
    Body, ByteStream, Class, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object,
    Put, Result, Storage, Stored,
};

use crate::server::unhex;

/// What a client gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// A body that is cut short just ends.
    EndsSilently,
    /// A broken connection is final.
    GivesUp,
    /// A create whose answer is lost is called transient.
    ForgetsCreates,
    /// A pause of 20 ms counts as a stall.
    Impatient,
    /// The version is not sent.
    IgnoresPin,
    /// 503 is an error like any other.
    IgnoresThrottling,
    /// The wait that the server asks for is halved.
    Hurries,
    /// 500 is final.
    BelievesInternal,
    /// A refusal is tried again and again.
    Insists,
    /// A refusal comes without a hint.
    Hintless,
    /// Expired credentials look like a refusal.
    ConfusesExpiry,
    /// A listing over a broken connection is a short listing.
    ListsSilently,
    /// Each object of a listing costs a request.
    ListsSlowly,
    /// A broken upload is completed with what there was.
    CompletesBroken,
}

impl Flaw {
    /// Every flaw, with the cases that fail on it; all others pass.
    pub const ALL: &[(Flaw, &[&str])] = &[
        (Flaw::EndsSilently, &["get.truncated"]),
        (
            Flaw::GivesUp,
            &["create.ambiguous", "get.truncated", "error.reset", "error.broken-upload"],
        ),
        (Flaw::ForgetsCreates, &["create.ambiguous"]),
        (Flaw::Impatient, &["get.slow"]),
        (Flaw::IgnoresPin, &["get.resumed"]),
        (Flaw::IgnoresThrottling, &["error.throttled"]),
        (Flaw::Hurries, &["error.throttled"]),
        (Flaw::BelievesInternal, &["error.internal"]),
        (Flaw::Insists, &["error.denied", "error.expired"]),
        (Flaw::Hintless, &["error.denied", "error.expired"]),
        (Flaw::ConfusesExpiry, &["error.expired"]),
        (Flaw::ListsSilently, &["error.reset"]),
        (Flaw::ListsSlowly, &["list.requests"]),
        (Flaw::CompletesBroken, &["error.broken-upload"]),
    ];
}

#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    flaw: Flaw,
    limits: Limits,
}

struct Response {
    status: u16,
    head: String,
    length: u64,
    rest: BytesMut,
    stream: TcpStream,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(": "))
    }

    fn meta(&self) -> Meta {
        let number =
            |name| self.header(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        Meta {
            size: number("X-Size") as u64,
            modified: DateTime::from_timestamp_micros(number("X-Modified")).unwrap(),
            version: self.header("ETag").map(str::to_owned),
        }
    }

    fn body(self, flaw: Flaw) -> ByteStream {
        let state = (self.stream, self.rest, self.length);
        stream::try_unfold(state, move |(mut stream, mut rest, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            if rest.is_empty() {
                let read = stream.read_buf(&mut rest);
                let patience =
                    Duration::from_millis(if flaw == Flaw::Impatient { 20 } else { 60_000 });
                let read = tokio::time::timeout(patience, read).await;
                let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match read {
                    Ok(0) | Err(_) if flaw == Flaw::EndsSilently => return Ok(None),
                    Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into(), flaw)),
                    Ok(_) => {}
                    Err(error) => return Err(broken(error, flaw)),
                }
            }
            let bytes = rest.split().freeze();
            let left = left.saturating_sub(bytes.len() as u64);
            Ok(Some((bytes, (stream, rest, left))))
        })
        .boxed()
    }
}

fn broken(error: io::Error, flaw: Flaw) -> Error {
    let class = if flaw == Flaw::GivesUp { Class::Never } else { Class::Transient };
    Error::new(Kind::Unavailable, "the connection broke").with_class(class).with_source(error)
}

fn hex(key: &Key) -> String {
    key.as_str().bytes().map(|byte| format!("{byte:02x}")).collect()
}

impl Client {
    pub fn new(server: SocketAddr, flaw: Flaw) -> Self {
        Self { server, flaw, limits: Limits { server_side_copy: false, ..Limits::unlimited() } }
    }

    async fn send(&self, head: &str, body: Option<Body>) -> Result<Response> {
        let failed = |error| broken(error, self.flaw);
        let mut stream = TcpStream::connect(self.server).await.map_err(failed)?;
        let framing = if body.is_some() { "Transfer-Encoding: chunked\r\n" } else { "" };
        let head = format!("{head}Host: test\r\n{framing}\r\n");
        stream.write_all(head.as_bytes()).await.map_err(failed)?;
        if let Some(body) = body {
            let mut chunks = body.into_stream();
            while let Some(chunk) = chunks.next().await.transpose()? {
                let sent = async {
                    stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                    stream.write_all(&chunk).await?;
                    stream.write_all(b"\r\n").await
                };
                sent.await.map_err(failed)?;
            }
            stream.write_all(b"0\r\n\r\n").await.map_err(failed)?;
        }
        let mut rest = BytesMut::new();
        let end = loop {
            if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut rest).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let head = String::from_utf8_lossy(&rest.split_to(end)).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut response = Response { status, head, length: 0, rest, stream };
        response.length =
            response.header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(response)
    }

    /// Sends a request and makes an error of a refusal.
    async fn call(
        &self,
        op: &'static str,
        key: &Key,
        line: &str,
        body: Option<Body>,
    ) -> Result<Response> {
        let tries = if self.flaw == Flaw::Insists { 5 } else { 1 };
        let head = format!("{line}\r\n");
        let mut body = body;
        for left in (0..tries).rev() {
            let again = body.as_ref().and_then(Body::replay);
            let response = self
                .send(&head, body.take())
                .await
                .map_err(|error| error.with_op(op).with_key(key))?;
            body = again;
            let refused = matches!(response.status, 400 | 401 | 403);
            if response.status < 300 || (left == 0 || !refused) {
                return self.checked(response, op, key).await;
            }
        }
        Err(Error::new(Kind::Internal, "no try was made"))
    }

    async fn checked(&self, response: Response, op: &'static str, key: &Key) -> Result<Response> {
        let (status, wait) = (response.status, response.header("Retry-After").map(str::to_owned));
        if status < 300 {
            return Ok(response);
        }
        let text =
            if op == "head" { Vec::new() } else { collect(response.body(Flaw::None)).await? };
        let expired = String::from_utf8_lossy(&text).contains("ExpiredToken");
        let (kind, class) = match status {
            404 => (Kind::NotFound, Class::Never),
            412 if op == "put" => (Kind::AlreadyExists, Class::Never),
            412 => (Kind::Changed, Class::Never),
            503 if self.flaw == Flaw::IgnoresThrottling => (Kind::Unavailable, Class::Transient),
            503 => (Kind::Throttled, Class::Throttled),
            500 if self.flaw == Flaw::BelievesInternal => (Kind::Internal, Class::Never),
            500 => (Kind::Unavailable, Class::Transient),
            400 if expired && self.flaw != Flaw::ConfusesExpiry => {
                (Kind::Unauthenticated, Class::Never)
            }
            403 | 400 if op != "head" => (Kind::Denied, Class::Never),
            403 => (Kind::Denied, Class::Never),
            _ => (Kind::Invalid, Class::Never),
        };
        let mut error = Error::new(kind, format!("the server answered {status}")).with_class(class);
        if let Some(seconds) = wait.and_then(|text| text.parse().ok()) {
            let seconds: u64 = if self.flaw == Flaw::Hurries { seconds / 2 } else { seconds };
            error = error.with_retry_after(Duration::from_secs(seconds));
        }
        if self.flaw != Flaw::Hintless {
            error = error.with_hint("Look at the server.");
        }
        Err(error.with_op(op).with_key(key))
    }

    async fn listed(&self, prefix: &Key, how: List) -> Result<Vec<Result<Entry>>> {
        let depth = if how.recursive { "all" } else { "one" };
        let after = how.after.as_ref().map(hex).unwrap_or_default();
        let line = format!("GET /list/{}/{depth}/{after} HTTP/1.1", hex(prefix));
        let text = match self.call("list", prefix, &line, None).await {
            Err(error)
                if self.flaw == Flaw::ListsSilently
                    && error.class() == Class::Transient
                    && error.message().contains("connection") =>
            {
                Vec::new()
            }
            response => collect(response?.body(self.flaw)).await?,
        };
        let mut entries = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let key = Key::foreign(unhex(words[0]));
            entries.push(Ok(match words[..] {
                [_, size, modified, version] => {
                    let meta = Meta {
                        size: size.parse().unwrap(),
                        modified: DateTime::from_timestamp_micros(modified.parse().unwrap())
                            .unwrap(),
                        version: Some(version.to_owned()),
                    };
                    let meta =
                        if self.flaw == Flaw::ListsSlowly { self.head(&key).await? } else { meta };
                    Entry::Object(key, meta)
                }
                _ => Entry::Prefix(key),
            }));
        }
        Ok(entries)
    }
}

async fn collect(body: ByteStream) -> Result<Vec<u8>> {
    body.try_fold(Vec::new(), |mut all, chunk: Bytes| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    })
    .await
}

#[async_trait]
impl Storage for Client {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let condition = if how.if_absent { "\r\nIf-None-Match: *" } else { "" };
        let line = format!("PUT /object/{} HTTP/1.1{condition}", hex(key));
        let bytes = collect(body.into_stream()).await?;
        let sent = self.call("put", key, &line, Some(Body::bytes(bytes.clone()))).await;
        let response = match sent {
            // Which side of the server's doing the break was on is not known.
            Err(error)
                if how.if_absent
                    && error.class() == Class::Transient
                    && self.flaw != Flaw::ForgetsCreates =>
            {
                return Err(error.with_class(Class::Ambiguous));
            }
            Err(error)
                if self.flaw == Flaw::CompletesBroken && error.message().contains("connection") =>
            {
                let half = bytes[..bytes.len() / 2].to_vec();
                self.call("put", key, &line, Some(Body::bytes(half))).await?;
                return Err(error);
            }
            response => response?,
        };
        Ok(Stored { size: bytes.len() as u64, version: response.header("ETag").map(str::to_owned) })
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut line = format!("GET /object/{} HTTP/1.1", hex(key));
        if let Some(range) = &how.range {
            line.push_str(&format!("\r\nRange: bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(version) = how.version.filter(|_| self.flaw != Flaw::IgnoresPin) {
            line.push_str(&format!("\r\nIf-Match: {version}"));
        }
        let response = self.call("get", key, &line, None).await?;
        let start = response.header("X-Start").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (meta, range) = (response.meta(), start..start + response.length);
        Ok(Object { meta, range, body: response.body(self.flaw) })
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let line = format!("HEAD /object/{} HTTP/1.1", hex(key));
        Ok(self.call("head", key, &line, None).await?.meta())
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let prefix = prefix.clone();
        stream::once(async move {
            self.listed(&prefix, how).await.unwrap_or_else(|error| vec![Err(error)])
        })
        .flat_map(stream::iter)
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut deleted = Vec::new();
        for key in keys {
            let line = format!("DELETE /object/{} HTTP/1.1", hex(key));
            let outcome = self.call("delete", key, &line, None).await.map(drop);
            deleted.push(Deleted { key: key.clone(), outcome });
        }
        Ok(deleted)
    }

    async fn copy(&self, from: &Key, _to: &Key) -> Result<Stored> {
        Err(Error::new(Kind::Unsupported, "no copies here").with_op("copy").with_key(from))
    }
}
