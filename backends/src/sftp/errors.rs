//! From what a server says to what happened.

use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::StatusCode;
use walport_engine::storage::{Error, Key, Kind};

/// The error for a refused request; `what` names the file.
pub(super) fn sftp(error: SftpError, op: &'static str, key: &Key) -> Error {
    let kind = kind(&error);
    let hint = match kind {
        Kind::Denied => {
            Some("The account may not do this: check owner and mode of that path on the server.")
        }
        Kind::Full => Some("Free space on the server, then run the command again."),
        _ => None,
    };
    let error = Error::new(kind, message(&error)).with_op(op).with_key(key);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn kind(error: &SftpError) -> Kind {
    match error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => Kind::NotFound,
            StatusCode::PermissionDenied => Kind::Denied,
            StatusCode::OpUnsupported => Kind::Unsupported,
            StatusCode::NoConnection | StatusCode::ConnectionLost => Kind::Unavailable,
            // OpenSSH says no more than "Failure"; others say why.
            _ if status.error_message.contains("space")
                || status.error_message.contains("quota") =>
            {
                Kind::Full
            }
            _ => Kind::Io,
        },
        SftpError::Timeout => Kind::Stalled,
        SftpError::IO(_) | SftpError::UnexpectedBehavior(_) => Kind::Unavailable,
        SftpError::Limited(_) | SftpError::UnexpectedPacket => Kind::Io,
    }
}

fn message(error: &SftpError) -> String {
    match error {
        SftpError::Status(status) if status.error_message.is_empty() => {
            format!("the server says: {}", status.status_code)
        }
        SftpError::Status(status) => format!("the server says: {}", status.error_message),
        SftpError::Timeout => "the server does not answer".to_owned(),
        other => format!("the connection failed: {other}"),
    }
}

/// Whether there is no such file.
pub(super) fn is_missing(error: &SftpError) -> bool {
    kind(error) == Kind::NotFound
}
