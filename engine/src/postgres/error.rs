//! From the driver's errors to ours, with hints for what operators meet.

use std::error::Error as StdError;

use rustls::CertificateError;
use tokio_postgres::error::{DbError, SqlState};

use super::params::{Address, Host, Params};
use crate::error::{Class, Error, Kind};

/// An error of a statement; `what` was being done.
pub(super) fn statement(what: &str, error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) => database(what, db),
        None => Error::new(Kind::Postgres, format!("{what}: {}", flat(error)))
            .with_class(if error.is_closed() { Class::Transient } else { Class::Never }),
    }
}

/// An error of a connection attempt.
pub(super) fn connection(host: &Host, params: &Params, error: &tokio_postgres::Error) -> Error {
    let what = format!("cannot connect to PostgreSQL at {host}");
    if let Some(db) = error.as_db_error() {
        let result = database(&what, db);
        return match login_hint(db, params) {
            Some(hint) => result.with_hint(hint),
            None => result,
        };
    }
    let result = Error::new(Kind::Postgres, format!("{what}: {}", flat(error)));
    if let Some(tls) = find::<rustls::Error>(error) {
        return match tls_hint(tls) {
            Some(hint) => result.with_hint(hint),
            None => result,
        };
    }
    if let Some(io) = find::<std::io::Error>(error) {
        let result = result.with_class(Class::Transient);
        return match socket_hint(host, io) {
            Some(hint) => result.with_hint(hint),
            None => result,
        };
    }
    let text = flat(error);
    if text.contains("password missing") {
        result.with_hint("The server asks for a password: set PGPASSWORD, or add a line for this host to the password file (~/.pgpass, mode 0600).")
    } else if text.contains("does not support TLS") {
        result.with_hint("Turn on `ssl` in postgresql.conf, or lower PGSSLMODE.")
    } else if text.contains("channel binding") {
        result.with_hint(
            "PGCHANNELBINDING=require needs TLS and a scram-sha-256 password; lower it to prefer.",
        )
    } else {
        result
    }
}

/// What the server said: message, detail, and its own or our hint.
fn database(what: &str, db: &DbError) -> Error {
    let mut text = format!("{what}: {}: {}", db.severity(), db.message());
    if let Some(detail) = db.detail() {
        text.push_str(" (");
        text.push_str(detail.trim_end_matches('.'));
        text.push(')');
    }
    let state = db.code();
    let transient = [
        &SqlState::CANNOT_CONNECT_NOW,
        &SqlState::TOO_MANY_CONNECTIONS,
        &SqlState::ADMIN_SHUTDOWN,
        &SqlState::CRASH_SHUTDOWN,
    ]
    .contains(&state);
    let error = Error::new(Kind::Postgres, text).with_class(if transient {
        Class::Transient
    } else {
        Class::Never
    });
    match state_hint(state).or(db.hint()) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn state_hint(state: &SqlState) -> Option<&'static str> {
    Some(match state {
        s if *s == SqlState::INSUFFICIENT_PRIVILEGE => {
            "Connect as a superuser, or grant the role pg_read_all_settings and EXECUTE on pg_backup_start(text, boolean) and pg_backup_stop(boolean) (before PostgreSQL 15: pg_start_backup(text, boolean, boolean) and pg_stop_backup(boolean, boolean))."
        }
        s if *s == SqlState::TOO_MANY_CONNECTIONS => {
            "Raise max_connections, or run backups as a role that may use the reserved connections."
        }
        s if *s == SqlState::CANNOT_CONNECT_NOW => {
            "The server is starting up, shutting down or not yet consistent; try again when it accepts connections."
        }
        _ => return None,
    })
}

fn login_hint(db: &DbError, params: &Params) -> Option<String> {
    let state = db.code();
    if *state == SqlState::INVALID_PASSWORD {
        Some(format!(
            "The password of role {:?} is wrong or has expired: check PGPASSWORD or the password file.",
            params.user
        ))
    } else if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        Some(format!(
            "Check that role {:?} exists and may log in, and that a line of pg_hba.conf allows this host, role, database and PGSSLMODE.",
            params.user
        ))
    } else if *state == SqlState::INVALID_CATALOG_NAME {
        Some(format!("Set PGDATABASE to a database that exists; {:?} was tried.", params.database))
    } else {
        None
    }
}

fn tls_hint(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::AlertReceived(_) => Some(
                "The server refused the TLS handshake: check PGSSLCERT and PGSSLKEY, and the server's log.",
            ),
            _ => None,
        };
    };
    Some(match certificate {
        CertificateError::UnknownIssuer => {
            "The server's certificate is not signed by a known authority: set PGSSLROOTCERT to the PEM file of the authority that signed it."
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "The server's certificate has no subject alternative name for this host: connect by a name that it has, or use PGSSLMODE=verify-ca."
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "The server's certificate has expired: renew it, and check the clocks of both hosts."
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "The server's certificate is not valid yet: check the clocks of both hosts."
        }
        _ => "Check the server's certificate and PGSSLROOTCERT.",
    })
}

fn socket_hint(host: &Host, error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind::{
        ConnectionRefused, NotFound, PermissionDenied, TimedOut, UnexpectedEof,
    };
    Some(match (&host.address, error.kind()) {
        (Address::Socket(_), NotFound) => {
            "No server listens there: check that PostgreSQL runs, and set PGHOST to its unix_socket_directories and PGPORT to its port."
        }
        (Address::Socket(_), PermissionDenied) => {
            "This user may not use the socket: run as the owner of the server, or set PGHOST to a host name."
        }
        (_, ConnectionRefused) => {
            "No server listens there: check PGHOST and PGPORT, and `listen_addresses` of the server."
        }
        (_, TimedOut) => "Nothing answers there: check PGHOST, PGPORT and the firewall.",
        (_, UnexpectedEof) => {
            "The server closed the connection: its log says why. With PGSSLNEGOTIATION=direct it must be PostgreSQL 17 or newer."
        }
        (Address::Tcp(_), _) => {
            "Check PGHOST: the name must resolve and the host must be reachable."
        }
        (Address::Socket(_), _) => return None,
    })
}

/// The first error of type `T` in the chain of causes. An `io::Error` hides what
/// it wraps from `source`, hence the extra step.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| find::<T>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The chain of causes on one line.
pub(super) fn flat(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
