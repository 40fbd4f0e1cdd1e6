//! Replies of a server, true or false, in the words of each kind of store.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Whose error bodies to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// XML, `<Error><Code>`.
    S3,
    /// JSON, `{"error": {...}}`.
    Gcs,
    /// XML, and the code in `x-ms-error-code`.
    Azure,
    /// No body: WebDAV and the like.
    Plain,
}

/// What happens when the reply, or as much of it as should be sent, is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The connection waits for the next request.
    KeepAlive,
    /// It is closed in good order.
    Close,
    /// It is reset.
    Reset,
    /// Nothing more is sent, and it stays open.
    Stall,
}

/// One reply. Its Content-Length is always that of the whole body, so a reply
/// that is cut short contradicts itself, as a broken connection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    sent: usize,
    pace: Option<(usize, Duration)>,
    ending: Ending,
}

impl Reply {
    /// A status and a body.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            sent: body.len(),
            body,
            pace: None,
            ending: Ending::KeepAlive,
        }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, body)
    }

    /// 503 that asks to wait, in whole seconds.
    pub fn throttled(dialect: Dialect, wait: Duration) -> Self {
        let code = match dialect {
            Dialect::S3 => "SlowDown",
            Dialect::Gcs => "backendError",
            Dialect::Azure => "ServerBusy",
            Dialect::Plain => "",
        };
        Self::error(dialect, 503, code, "Please reduce your request rate.")
            .header("Retry-After", wait.as_secs().to_string())
    }

    /// 500.
    pub fn internal(dialect: Dialect) -> Self {
        let code = if dialect == Dialect::Gcs { "internalError" } else { "InternalError" };
        Self::error(dialect, 500, code, "We encountered an internal error. Please try again.")
    }

    /// Credentials that have expired: 400 in S3, 401 in GCS, 403 in Azure.
    pub fn expired(dialect: Dialect) -> Self {
        match dialect {
            Dialect::S3 => {
                Self::error(dialect, 400, "ExpiredToken", "The provided token has expired.")
            }
            Dialect::Gcs => Self::error(dialect, 401, "authError", "Invalid Credentials"),
            Dialect::Azure => Self::error(
                dialect,
                403,
                "AuthenticationFailed",
                "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.",
            ),
            Dialect::Plain => {
                Self::error(dialect, 401, "", "").header("WWW-Authenticate", "Basic realm=\"test\"")
            }
        }
    }

    /// A caller who is known and may not: 403.
    pub fn denied(dialect: Dialect) -> Self {
        let code = match dialect {
            Dialect::S3 => "AccessDenied",
            Dialect::Gcs => "forbidden",
            Dialect::Azure => "AuthorizationPermissionMismatch",
            Dialect::Plain => "",
        };
        Self::error(dialect, 403, code, "Access Denied")
    }

    /// An error in the store's own words.
    pub fn error(dialect: Dialect, status: u16, code: &str, message: &str) -> Self {
        match dialect {
            Dialect::S3 => Self::new(
                status,
                format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>0</RequestId></Error>"),
            )
            .header("Content-Type", "application/xml"),
            Dialect::Gcs => Self::new(
                status,
                serde_json::json!({"error": {"code": status, "message": message, "errors": [{"domain": "global", "reason": code, "message": message}]}}).to_string(),
            )
            .header("Content-Type", "application/json; charset=UTF-8"),
            Dialect::Azure => Self::new(
                status,
                format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"),
            )
            .header("Content-Type", "application/xml")
            .header("x-ms-error-code", code),
            Dialect::Plain => Self::new(status, Bytes::new()),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends only the first `bytes` of the body, then does `ending`.
    pub fn cut(mut self, bytes: usize, ending: Ending) -> Self {
        self.sent = bytes.min(self.body.len());
        self.ending = ending;
        self
    }

    /// Sends the body slowly: so many bytes, after each so long a pause.
    pub fn paced(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes.max(1), pause));
        self
    }

    /// What happens after the reply.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// Writes the reply, or as much of it as should be sent. After a `HEAD` the
    /// body is left out and its length is still told.
    pub(super) async fn write(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        head_only: bool,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let told = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !told && !matches!(self.status, 204 | 304) {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        if self.ending == Ending::Close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        to.write_all(head.as_bytes()).await?;
        if !head_only {
            let body = &self.body[..self.sent];
            match self.pace {
                None => to.write_all(body).await?,
                Some((bytes, pause)) => {
                    for piece in body.chunks(bytes) {
                        to.write_all(piece).await?;
                        to.flush().await?;
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
        to.flush().await
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
