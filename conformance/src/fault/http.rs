//! As much of HTTP/1.1 as a server that fails on purpose needs.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 << 10;
/// How much of a request's body is kept for the test to look at.
const KEPT: usize = 2 << 20;

/// A request as the server received it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// The bytes of the body, counted.
    pub body_len: u64,
    /// The first 2 MiB of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Whether `bytes` begin like an HTTP request.
pub(super) fn begins_request(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 8] = [
        b"GET /",
        b"PUT /",
        b"HEAD /",
        b"POST /",
        b"DELETE /",
        b"PATCH /",
        b"OPTIONS /",
        b"PROPFIND /",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Where the head ends (past the empty line), if it has arrived.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads one request, its body included; `None` when the client has closed.
/// `buffer` holds bytes that were read already, and those of the next request.
pub(super) async fn read_request(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(end) = head_end(buffer) {
            break end;
        }
        if buffer.len() > MAX_HEAD {
            return Err(invalid("the head of the request is too long"));
        }
        if from.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let head = buffer.split_to(end);
    let mut request = parse_head(&head)?;
    if request.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        read_chunked(from, buffer, &mut request).await?;
    } else if let Some(length) = request.header("content-length") {
        let length = length.trim().parse().map_err(|_| invalid("Content-Length is no number"))?;
        read_exactly(from, buffer, length, &mut request).await?;
    }
    Ok(Some(request))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn parse_head(head: &[u8]) -> io::Result<Request> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        return Err(invalid("the first line is not that of a request"));
    };
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Request { method: method.into(), target: target.into(), headers, ..Request::default() })
}

async fn read_exactly(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    mut left: u64,
    request: &mut Request,
) -> io::Result<()> {
    while left > 0 {
        if buffer.is_empty() && from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = buffer.split_to(take);
        let keep = KEPT.saturating_sub(request.body.len()).min(bytes.len());
        request.body.extend_from_slice(&bytes[..keep]);
        request.body_len += take as u64;
        left -= take as u64;
    }
    Ok(())
}

async fn read_chunked(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    request: &mut Request,
) -> io::Result<()> {
    loop {
        let line = read_line(from, buffer).await?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let size =
            u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk's size is no number"))?;
        if size == 0 {
            // Trailers, then an empty line.
            while !read_line(from, buffer).await?.is_empty() {}
            return Ok(());
        }
        read_exactly(from, buffer, size, request).await?;
        read_line(from, buffer).await?;
    }
}

async fn read_line(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<String> {
    loop {
        if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
            let line = buffer.split_to(at + 2);
            return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
        }
        if buffer.len() > MAX_HEAD || from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
