//! TLS for connections to PostgreSQL: rustls with libpq's rules of trust.
//!
//! Differences from libpq: without a file of authorities, `verify-ca` and
//! `verify-full` trust those of the operating system; a host name is looked for
//! in the certificate's alternative names only, never in its common name.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::params::{SslMode, SslParams};
use crate::error::{Error, Kind, Result};

/// Makes TLS connections. Cloning shares the configuration.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Reads certificates and keys. An unreadable one is an error, even where
    /// `prefer` would then connect without TLS.
    pub fn new(params: &SslParams) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(params, Arc::clone(&provider))?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Kind::Internal, "TLS cannot be set up").with_source(error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&params.certificate, &params.key) {
            (Some(certificate), Some(key)) => {
                let chain = read_certificates(certificate)?;
                builder.with_client_auth_cert(chain, read_key(key)?).map_err(|error| {
                    Error::new(
                        Kind::Config,
                        format!(
                            "the client certificate {} cannot be used with the key {}",
                            certificate.display(),
                            key.display()
                        ),
                    )
                    .with_source(error)
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.enable_sni = params.sni;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Does the handshake over `stream` with the server called `name`.
    pub async fn handshake<S>(&self, name: &str, stream: S) -> io::Result<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a host name or an IP address"),
            )
        })?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        Ok(Stream(connector.connect(name, stream).await?))
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        Ok(Handshake { connector: self.clone(), name: domain.to_owned() })
    }
}

/// A handshake to come.
#[derive(Debug)]
pub struct Handshake {
    connector: Connector,
    name: String,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.handshake(&self.name, stream).await })
    }
}

/// An encrypted connection.
#[derive(Debug)]
pub struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.0
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| end_point(chain.first()?))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Decides about the server's certificate, by `PGSSLMODE`.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Absent where any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// A certificate that is listed among the authorities is trusted as it is:
    /// many servers present a self-signed one.
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl Verifier {
    fn new(params: &SslParams, provider: Arc<CryptoProvider>) -> Result<Self> {
        let check_name = params.mode == SslMode::VerifyFull;
        let must_check = check_name || params.mode == SslMode::VerifyCa;
        let (pinned, system) = match &params.root {
            Some(path) if path == Path::new("system") => (Vec::new(), true),
            // libpq, too, checks the chain in mode `require` if there is a file.
            Some(path) if must_check || params.mode == SslMode::Require => {
                (read_certificates(path)?, false)
            }
            Some(_) => (Vec::new(), false),
            None => (Vec::new(), must_check),
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pinned.iter().cloned());
        if system {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let chain = if pinned.is_empty() && !system {
            None
        } else if roots.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "there is no authority to check the server's certificate with",
            )
            .with_hint("Set PGSSLROOTCERT to a PEM file of the authority that signed it."));
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| {
                        Error::new(Kind::Config, "the authorities cannot be used")
                            .with_source(error)
                    })?;
            Some(verifier)
        };
        Ok(Self { provider, chain, pinned, check_name })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            if self.check_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is the last thing that is looked at: the chain is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let what = || format!("certificate file {}", path.display());
    let bytes = std::fs::read(path).map_err(|error| Error::io(what(), error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(Kind::Config, what()).with_source(error))?;
    if certificates.is_empty() {
        return Err(Error::new(Kind::Config, format!("{} holds no certificate", what()))
            .with_hint("The file must be PEM: it has a line `-----BEGIN CERTIFICATE-----`."));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let what = || format!("key file {}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(what(), error))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(Error::new(Kind::Config, format!("{} can be read by others", what()))
            .with_hint("Give it mode 0600, or 0640 if root owns it."));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(what(), error))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        // The parser's words could quote the key.
        Error::new(Kind::Config, format!("{} holds no key that can be used", what()))
            .with_hint("The key must be PEM and not encrypted.")
    })
}

/// The channel binding `tls-server-end-point` (RFC 5929): a hash of the
/// certificate by the hash of its signature, SHA-256 where that is weaker.
/// `None` if the signature has no hash of its own.
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04];
    let (_, outer, _) = element(certificate)?;
    let (_, _, rest) = element(outer)?;
    let (_, algorithm, _) = element(rest)?;
    let (tag, oid, _) = element(algorithm)?;
    if tag != 0x06 {
        return None;
    }
    let hash = if let Some(last) = oid.strip_prefix(RSA) {
        match last {
            [4 | 5 | 11] => &ring::digest::SHA256,
            [12] => &ring::digest::SHA384,
            [13] => &ring::digest::SHA512,
            _ => return None,
        }
    } else {
        match oid.strip_prefix(ECDSA)? {
            [1] | [3, 2] => &ring::digest::SHA256,
            [3, 3] => &ring::digest::SHA384,
            [3, 4] => &ring::digest::SHA512,
            _ => return None,
        }
    };
    Some(ring::digest::digest(hash, certificate).as_ref().to_vec())
}

/// The first DER element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk::<2>()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7F);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        rest = after;
        digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit))
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}
