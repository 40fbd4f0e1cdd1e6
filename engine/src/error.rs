//! The one error of Walport: what happened, to which object, whether trying
//! again can help, and what the operator should do.
//!
//! Rules for messages: lower case, no final period, name the thing that failed;
//! a hint is a full sentence that says what to do. No secret ever enters one.

use std::fmt;
use std::io;
use std::time::Duration;

/// The result of every fallible call in Walport.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Exit codes and the conformance suite read this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The object, file or backup does not exist.
    NotFound,
    /// Create-if-absent lost: something is stored under the name already.
    AlreadyExists,
    /// The object changed while it was being read, or a precondition failed.
    Changed,
    /// The store knows who we are and refuses.
    Denied,
    /// The store does not know who we are: missing, wrong or expired credentials.
    Unauthenticated,
    /// The store cannot do this at all.
    Unsupported,
    /// An argument that cannot be used.
    Invalid,
    /// A setting that cannot be used.
    Config,
    /// Bytes that do not decode, or do not match what was recorded.
    Corrupt,
    /// The store asks us to slow down.
    Throttled,
    /// The store, or the way to it, is down for now.
    Unavailable,
    /// No byte moved for longer than the no-progress limit.
    Stalled,
    /// The disk or the bucket is full.
    Full,
    /// The memory limit is too small for what was asked.
    Memory,
    /// PostgreSQL refused, or could not be reached.
    Postgres,
    /// An operation of the local file system failed.
    Io,
    /// A signal ended the work.
    Interrupted,
    /// A defect of Walport.
    Internal,
}

/// Whether trying again can help. Retry reads this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying again gives the same answer.
    Never,
    /// Trying again may work.
    Transient,
    /// Trying again may work, later.
    Throttled,
    /// The outcome is unknown: the operation may have taken effect.
    Ambiguous,
}

/// One row of the exit-code table.
#[derive(Debug, Clone, Copy)]
pub struct ExitCode {
    /// The kind of error.
    pub kind: Kind,
    /// The status with WAL-G's numbering (the default).
    pub compatible: u8,
    /// The status with `--strict-exit-codes`: above 127, so that PostgreSQL
    /// stops instead of taking the failure for "no such file".
    pub strict: u8,
}

/// Exit codes, all of them. `wal-fetch` of a missing file is special: 74, as in
/// WAL-G, or 1 with `--strict-exit-codes`.
pub const EXIT_CODES: &[ExitCode] = &[
    ExitCode { kind: Kind::NotFound, compatible: 1, strict: 200 },
    ExitCode { kind: Kind::AlreadyExists, compatible: 1, strict: 201 },
    ExitCode { kind: Kind::Changed, compatible: 1, strict: 202 },
    ExitCode { kind: Kind::Denied, compatible: 1, strict: 203 },
    ExitCode { kind: Kind::Unauthenticated, compatible: 1, strict: 204 },
    ExitCode { kind: Kind::Unsupported, compatible: 1, strict: 205 },
    ExitCode { kind: Kind::Invalid, compatible: 1, strict: 206 },
    ExitCode { kind: Kind::Config, compatible: 1, strict: 207 },
    ExitCode { kind: Kind::Corrupt, compatible: 1, strict: 208 },
    ExitCode { kind: Kind::Throttled, compatible: 1, strict: 209 },
    ExitCode { kind: Kind::Unavailable, compatible: 1, strict: 210 },
    ExitCode { kind: Kind::Stalled, compatible: 1, strict: 211 },
    ExitCode { kind: Kind::Full, compatible: 1, strict: 212 },
    ExitCode { kind: Kind::Memory, compatible: 1, strict: 213 },
    ExitCode { kind: Kind::Postgres, compatible: 1, strict: 214 },
    ExitCode { kind: Kind::Io, compatible: 1, strict: 215 },
    ExitCode { kind: Kind::Interrupted, compatible: 1, strict: 216 },
    ExitCode { kind: Kind::Internal, compatible: 1, strict: 217 },
];

/// `wal-fetch` of a file that no used storage has (EX_IOERR, as in WAL-G).
pub const EXIT_WAL_MISSING: u8 = 74;
/// The same with `--strict-exit-codes`.
pub const EXIT_WAL_MISSING_STRICT: u8 = 1;

struct Repr {
    kind: Kind,
    class: Class,
    op: Option<&'static str>,
    key: Option<String>,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error: kind, retry class, operation, key, message, source and hint.
pub struct Error(Box<Repr>);

impl Error {
    /// An error of `kind` with a one-line message. Its class follows from the
    /// kind: throttled, unavailable and stalled may be tried again.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let class = match kind {
            Kind::Throttled => Class::Throttled,
            Kind::Unavailable | Kind::Stalled => Class::Transient,
            _ => Class::Never,
        };
        Self(Box::new(Repr {
            kind,
            class,
            op: None,
            key: None,
            message: message.into(),
            hint: None,
            retry_after: None,
            source: None,
        }))
    }

    /// An error of the local file system, with the path it happened to.
    pub fn io(what: impl fmt::Display, source: io::Error) -> Self {
        match source.downcast::<Error>() {
            Ok(inner) => inner,
            Err(source) => Self::new(io_kind(&source), what.to_string())
                .maybe_hint(io_hint(&source))
                .with_source(source),
        }
    }

    /// Sets the retry class.
    pub fn with_class(mut self, class: Class) -> Self {
        self.0.class = class;
        self
    }

    /// Names the operation: `put`, `get`, `head`, `list`, `delete`, `copy`.
    pub fn with_op(mut self, op: &'static str) -> Self {
        self.0.op = Some(op);
        self
    }

    /// Names the object.
    pub fn with_key(mut self, key: impl fmt::Display) -> Self {
        self.0.key = Some(key.to_string());
        self
    }

    /// Says what the operator should do.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    fn maybe_hint(mut self, hint: Option<&str>) -> Self {
        self.0.hint = hint.map(str::to_owned);
        self
    }

    /// Records how long the store asked us to wait.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Records the cause.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `what` before the message: `what: message`.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// The operation, if one was named.
    pub fn op(&self) -> Option<&'static str> {
        self.0.op
    }

    /// The object, if one was named.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What the operator should do, if we know.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// How long the store asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The message alone, without operation, key and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The process exit status for this error.
    pub fn exit_code(&self, strict: bool) -> u8 {
        EXIT_CODES
            .iter()
            .find(|row| row.kind == self.kind())
            .map_or(1, |row| if strict { row.strict } else { row.compatible })
    }
}

fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::AlreadyExists => Kind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Kind::Full
        }
        io::ErrorKind::OutOfMemory => Kind::Memory,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Kind::Corrupt,
        _ => Kind::Io,
    }
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            Some("Free space on that file system, then run the command again.")
        }
        io::ErrorKind::QuotaExceeded => {
            Some("Raise the quota or free space, then run the command again.")
        }
        io::ErrorKind::FileTooLarge => Some(
            "Raise the file size limit of the process (ulimit -f), or use a file system for larger files.",
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("The file system is mounted read-only; remount it or choose another target.")
        }
        io::ErrorKind::PermissionDenied => Some(
            "Check the owner and the mode of that path; Walport must run as a user that may use it.",
        ),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(op) = self.0.op {
            write!(f, "{op} ")?;
        }
        if let Some(key) = &self.0.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.0.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            // The message of an `Error` already holds its own causes.
            if error.is::<Error>() {
                break;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?}, {:?})", self.0.kind, self.0.class)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// An `io::Error` that passed through a codec gives back the [`Error`] inside it.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::io("input or output failed", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_strict_codes_are_distinct() {
        let mut seen = std::collections::HashSet::new();
        for row in EXIT_CODES {
            assert!(row.strict >= 128, "{row:?}");
            assert!(seen.insert(row.strict), "{row:?}");
            assert_eq!(Error::new(row.kind, "x").exit_code(true), row.strict);
            assert_eq!(Error::new(row.kind, "x").exit_code(false), 1);
        }
    }

    #[test]
    fn an_error_survives_a_trip_through_io() {
        let first = Error::new(Kind::Throttled, "slow down").with_key("a/b").with_op("put");
        let back = Error::from(io::Error::from(first));
        assert_eq!(back.kind(), Kind::Throttled);
        assert_eq!(back.class(), Class::Throttled);
        assert_eq!(back.to_string(), "put a/b: slow down");
    }
}
