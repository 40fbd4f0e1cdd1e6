//! What went wrong below HTTP, in words an operator can act on.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};
use walport_engine::error::{Class, Error, Kind};

/// A request that got no response.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong; its class is [`Class::Never`] or [`Class::Transient`].
    pub error: Error,
    /// The server may have seen the request and acted on it.
    pub sent: bool,
}

impl Failure {
    pub(super) fn of_request(error: &hyper_util::client::legacy::Error, host: &str) -> Self {
        let sent = !error.is_connect();
        let what = if sent { "the connection to" } else { "cannot connect to" };
        let (kind, class, why, hint) = reason(error);
        let message = if sent {
            format!("{what} {host} broke: {why}")
        } else {
            format!("{what} {host}: {why}")
        };
        let mut told = Error::new(kind, message).with_class(class);
        if let Some(hint) = hint {
            told = told.with_hint(hint);
        }
        Self { error: told, sent }
    }
}

/// A response that broke off.
pub(super) fn of_body(error: &hyper::Error) -> Error {
    let (_, _, why, _) = reason(error);
    Error::new(Kind::Unavailable, format!("the connection broke within the response: {why}"))
}

/// A response that ended `left` bytes too soon.
pub(super) fn cut_short(left: u64) -> Error {
    Error::new(
        Kind::Unavailable,
        format!("the response ended {left} bytes before its announced size"),
    )
}

type Reason = (Kind, Class, String, Option<&'static str>);

fn reason(error: &(dyn StdError + 'static)) -> Reason {
    let mut last = error.to_string();
    let mut cause = Some(error);
    let mut named = None;
    while let Some(error) = cause {
        last = error.to_string();
        if let Some(reason) = error.downcast_ref::<rustls::Error>().map(of_tls) {
            return reason;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(tls) = inner {
                return of_tls(tls);
            }
            named = of_io(error).or(named);
        }
        cause = error.source();
    }
    named.unwrap_or_else(|| match last {
        text if text.contains("lookup address") || text.contains("not known") => of_name(text),
        text if text.contains("certificate authority") => {
            (Kind::Config, Class::Never, text, Some("Install the ca-certificates package or name a file of certificates (S3_CA_CERT_FILE, WALPORT_AZURE_CA_FILE, WALPORT_GCS_CA_FILE)."))
        }
        text if text.contains("proxy") => (
            Kind::Config, Class::Never, text,
            Some("Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment."),
        ),
        text => (Kind::Unavailable, Class::Transient, text, None),
    })
}

fn of_io(error: &io::Error) -> Option<Reason> {
    use io::ErrorKind as E;
    let text = error.to_string();
    let hint = match error.kind() {
        E::ConnectionRefused => {
            "Nothing listens there: check the endpoint, its port, and that the store is running."
        }
        E::TimedOut | E::HostUnreachable | E::NetworkUnreachable => {
            "The host does not answer: check the endpoint, the route and the firewall."
        }
        E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted | E::UnexpectedEof => {
            return Some((Kind::Unavailable, Class::Transient, text, None));
        }
        _ if text.contains("lookup address") => return Some(of_name(text)),
        _ => return None,
    };
    Some((Kind::Unavailable, Class::Transient, text, Some(hint)))
}

/// A name that does not exist stays so; a resolver that does not answer may recover.
fn of_name(text: String) -> Reason {
    let class = if text.contains("Temporary failure") { Class::Transient } else { Class::Never };
    (
        Kind::Unavailable,
        class,
        text,
        Some("Check the host name of the endpoint, and DNS on this host."),
    )
}

fn of_tls(error: &rustls::Error) -> Reason {
    use rustls::Error as T;
    let hint = match error {
        T::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "The certificate is signed by an authority this host does not trust: name its certificate file (S3_CA_CERT_FILE, WALPORT_AZURE_CA_FILE, WALPORT_GCS_CA_FILE)."
        }
        T::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "The server's certificate has expired; renew it, or correct the clock of this host.",
        T::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "The server's certificate is not valid yet; check the clock of this host.",
        T::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "The certificate is for another host: use the name it was issued for, or path style if the bucket is part of the host name."
        }
        T::InvalidCertificate(_) => "The server's certificate cannot be trusted.",
        T::InvalidMessage(_) => {
            "The server does not speak TLS there: write http:// in the endpoint, or use its TLS port."
        }
        T::AlertReceived(AlertDescription::UnrecognisedName) => {
            "The server does not know that host name."
        }
        T::AlertReceived(_) | T::PeerIncompatible(_) => {
            "The server refuses every version or cipher of TLS that we offer."
        }
        _ => return (Kind::Unavailable, Class::Transient, error.to_string(), None),
    };
    (Kind::Config, Class::Never, error.to_string(), Some(hint))
}
