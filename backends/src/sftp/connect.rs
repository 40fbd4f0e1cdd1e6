//! A connection: the server's key is checked, then we show who we are, then the
//! SFTP subsystem is started.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::SshId;
use russh::client::{self, AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{
    Error as KeyError, PrivateKeyWithHashAlg, PublicKeyOrCertificate, check_known_hosts_path,
    load_secret_key, ssh_key,
};
use russh_sftp::client::{Config as SftpConfig, RawSftpSession};
use walport_engine::storage::{Error, Kind, Result};

use super::config::{Config, home};

/// How long a server may take until it has let us in.
const CONNECT: Duration = Duration::from_secs(20);
/// How long one request may take: syncing a large file is slow. What does not
/// move at all is noticed by the stall policy.
const REQUEST: u64 = 300;
/// The longest read and write of one request in bytes: every server takes it.
pub(super) const BLOCK: usize = 32 << 10;

/// An open connection.
pub(super) struct Connection {
    ssh: Handle<Check>,
    pub sftp: RawSftpSession,
    pub abilities: Abilities,
}

/// What a server offers beyond the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Abilities {
    /// A rename that replaces.
    pub posix_rename: bool,
    /// A second name for a file, which fails if the name is taken.
    pub hardlink: bool,
    /// Syncing a file.
    pub fsync: bool,
}

impl Connection {
    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.ssh.is_closed()
    }

    /// Connects.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        match tokio::time::timeout(CONNECT, Self::try_open(config)).await {
            Ok(done) => done,
            Err(_) => Err(unreachable(config, "it does not answer")),
        }
    }

    async fn try_open(config: &Config) -> Result<Self> {
        let refused = Arc::new(Mutex::new(None));
        let check = Check { config: config.clone(), refused: Arc::clone(&refused) };
        let address = (config.host.as_str(), config.port);
        let mut ssh = client::connect(Arc::new(ssh_config(config)), address, check).await.map_err(
            |error| match refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(refused) => refused,
                None => unreachable(config, &error.to_string()),
            },
        )?;
        authenticate(&mut ssh, config).await?;
        let channel = ssh
            .channel_open_session()
            .await
            .map_err(|error| no_sftp(config, &error.to_string()))?;
        channel
            .request_subsystem(true, "sftp")
            .await
            .map_err(|error| no_sftp(config, &error.to_string()))?;
        let settings = SftpConfig { request_timeout_secs: REQUEST, ..SftpConfig::default() };
        let sftp = RawSftpSession::new_with_config(channel.into_stream(), settings);
        let version = sftp.init().await.map_err(|error| no_sftp(config, &error.to_string()))?;
        let offers = |name: &str| version.extensions.contains_key(name);
        let abilities = Abilities {
            posix_rename: offers("posix-rename@openssh.com"),
            hardlink: offers("hardlink@openssh.com"),
            fsync: offers("fsync@openssh.com"),
        };
        Ok(Self { ssh, sftp, abilities })
    }
}

fn ssh_config(config: &Config) -> client::Config {
    let mut ssh = client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-walport")),
        keepalive_interval: Some(Duration::from_secs(15)),
        nodelay: true,
        channel_buffer_size: 16,
        ..client::Config::default()
    };
    // Ask first for the kind of key that is known, as the server has several.
    if let Some(path) = &config.known_hosts
        && let Ok(known) =
            russh::keys::known_hosts::known_host_keys_path(&config.host, config.port, path)
    {
        let mut order = ssh.preferred.key.to_vec();
        order.sort_by_key(|algorithm| {
            !known.iter().any(|(_, key)| {
                key.algorithm() == *algorithm
                    || key.algorithm().is_rsa() && algorithm.clone().is_rsa()
            })
        });
        ssh.preferred.key = Cow::Owned(order);
    }
    ssh
}

fn unreachable(config: &Config, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("cannot reach {}:{}: {why}", config.host, config.port))
        .with_hint("Check host and port of the SSH target, and that the server runs.")
}

fn no_sftp(config: &Config, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{} offers no SFTP: {why}", config.host)).with_hint(
        "The server must have an sftp subsystem, and the account must be allowed to use it.",
    )
}

/// Checks the key of the server.
struct Check {
    config: Config,
    /// Why the key was refused; the library only says that it was.
    refused: Arc<Mutex<Option<Error>>>,
}

impl client::Handler for Check {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let Some(path) = &self.config.known_hosts else { return Ok(true) };
        let verdict = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.verdict(key, path),
            PublicKeyOrCertificate::Certificate(_) => Err(self.refuse(
                "shows a certificate, which Walport cannot check",
                "Give the server a plain host key, too.",
            )),
        };
        Ok(verdict
            .map_err(|error| {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            })
            .is_ok())
    }
}

impl Check {
    fn verdict(&self, key: &ssh_key::PublicKey, path: &Path) -> Result<()> {
        let Config { host, port, .. } = &self.config;
        let print = key.fingerprint(ssh_key::HashAlg::Sha256);
        match check_known_hosts_path(host, *port, key, path) {
            Ok(true) => Ok(()),
            Err(KeyError::KeyChanged { line }) => Err(self.refuse(
                &format!("has another key than line {line} of {} says", path.display()),
                &format!("Somebody may be listening. If the server was renewed on purpose, replace that line; its key is now {print}."),
            )),
            Ok(false) | Err(_) => Err(self.refuse(
                &format!("is not in {}", path.display()),
                &format!("If its key is {print}, add it with `ssh-keyscan -p {port} {host} >> {}`.", path.display()),
            )),
        }
    }

    fn refuse(&self, why: &str, hint: &str) -> Error {
        Error::new(
            Kind::Unauthenticated,
            format!("the server {}:{} {why}", self.config.host, self.config.port),
        )
        .with_hint(hint)
    }
}

async fn authenticate(ssh: &mut Handle<Check>, config: &Config) -> Result<()> {
    let mut tried = Vec::new();
    if let Some(path) = &config.key {
        tried.push(format!("the key {}", path.display()));
        if with_key(ssh, config, path).await? {
            return Ok(());
        }
    }
    if let Some(password) = &config.password {
        tried.push("the password".to_owned());
        let result = ssh.authenticate_password(&config.user, password).await;
        if accepted(config, result)? {
            return Ok(());
        }
    }
    if config.key.is_none() && config.password.is_none() {
        if std::env::var_os("SSH_AUTH_SOCK").is_some() {
            tried.push("the keys of the agent".to_owned());
            if with_agent(ssh, config).await? {
                return Ok(());
            }
        }
        for name in [".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"] {
            let path = home(name);
            if path.exists() {
                tried.push(format!("the key {}", path.display()));
                if with_key(ssh, config, &path).await? {
                    return Ok(());
                }
            }
        }
    }
    let tried = if tried.is_empty() {
        "nothing, as there is no key and no password".to_owned()
    } else {
        tried.join(", ")
    };
    Err(Error::new(Kind::Unauthenticated, format!("{} does not let {} in; tried: {tried}", config.host, config.user))
        .with_hint("Check SSH_USERNAME, SSH_PASSWORD and SSH_PRIVATE_KEY_PATH, and authorized_keys on the server."))
}

fn accepted(
    config: &Config,
    result: std::result::Result<AuthResult, russh::Error>,
) -> Result<bool> {
    result.map(|result| result.success()).map_err(|error| unreachable(config, &error.to_string()))
}

async fn with_key(ssh: &mut Handle<Check>, config: &Config, path: &Path) -> Result<bool> {
    let key = load_secret_key(path, config.passphrase.as_deref()).map_err(|error| {
        Error::new(Kind::Config, format!("cannot use the key {}: {error}", path.display()))
            .with_hint("It must be a private key in OpenSSH or PEM form; set WALPORT_SSH_KEY_PASSPHRASE if it is encrypted.")
    })?;
    let hash = ssh.best_supported_rsa_hash().await.ok().flatten().flatten();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    accepted(config, ssh.authenticate_publickey(&config.user, key).await)
}

async fn with_agent(ssh: &mut Handle<Check>, config: &Config) -> Result<bool> {
    let unusable = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Config, format!("the SSH agent cannot be used: {error}"))
            .with_hint("Start it again, or set SSH_PRIVATE_KEY_PATH.")
    };
    let mut agent = AgentClient::connect_env().await.map_err(|error| unusable(&error))?;
    let hash = ssh.best_supported_rsa_hash().await.ok().flatten().flatten();
    for identity in agent.request_identities().await.map_err(|error| unusable(&error))? {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if key.algorithm().is_rsa() { hash } else { None };
        match ssh.authenticate_publickey_with(&config.user, key, hash, &mut agent).await {
            Ok(result) if result.success() => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(unusable(&error)),
        }
    }
    Ok(false)
}
