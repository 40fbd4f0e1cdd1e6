//! What the settings say about a server.

use std::fmt;
use std::path::PathBuf;

use walport_engine::settings::Settings;
use walport_engine::storage::{Error, Kind, Result};

/// How to reach a server, and where backups are on it.
#[derive(Clone)]
pub(super) struct Config {
    pub host: String,
    pub port: u16,
    pub user: String,
    /// The absolute path of the root, without a slash at its end.
    pub root: String,
    pub password: Option<String>,
    pub key: Option<PathBuf>,
    pub passphrase: Option<String>,
    /// `None` if the server's key is not checked.
    pub known_hosts: Option<PathBuf>,
    /// Requests under way at a time.
    pub requests: usize,
}

/// Without the secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Config {
    pub(super) fn new(target: &str, settings: &Settings) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(Kind::Config, format!("the SSH target {why}"))
                .with_hint("Write it as ssh://[USER@]HOST[:PORT]/ABSOLUTE/PATH."))
        };
        let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
        let Some((authority, path)) = rest.split_once('/') else { return wrong("has no path") };
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return wrong("holds a password; set SSH_PASSWORD instead");
        }
        let (host, port) = match split_port(host_port) {
            (host, Some(port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return wrong("has a port that is not a number"),
            },
            (host, None) => (host, None),
        };
        if host.is_empty() {
            return wrong("has no host");
        }
        let text = |name| settings.text(name).filter(|text| !text.is_empty());
        let user = match user.or_else(|| text("SSH_USERNAME")) {
            Some(user) => user.to_owned(),
            None => std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).map_err(|_| {
                Error::new(Kind::Config, "SSH_USERNAME is not set")
                    .with_hint("Set SSH_USERNAME, or write the account into the target.")
            })?,
        };
        let default_port =
            settings.number("SSH_PORT").and_then(|port| u16::try_from(port).ok()).unwrap_or(22);
        let check = settings.text("WALPORT_SSH_HOST_KEY_CHECK").is_none()
            || settings.flag("WALPORT_SSH_HOST_KEY_CHECK");
        Ok(Self {
            host: host.to_owned(),
            port: port.unwrap_or(default_port),
            user,
            root: format!("/{}", path.trim_matches('/')).trim_end_matches('/').to_owned(),
            password: text("SSH_PASSWORD").map(str::to_owned),
            key: text("SSH_PRIVATE_KEY_PATH").map(PathBuf::from),
            passphrase: text("WALPORT_SSH_KEY_PASSPHRASE").map(str::to_owned),
            known_hosts: check.then(|| {
                text("WALPORT_SSH_KNOWN_HOSTS")
                    .map_or_else(|| home(".ssh/known_hosts"), PathBuf::from)
            }),
            requests: settings
                .number("WALPORT_SSH_REQUESTS")
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(64)
                .max(1),
        })
    }
}

/// `HOST:PORT`, `HOST`, `[V6]:PORT` or `[V6]`.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((host, rest)) = rest.split_once(']')
    {
        return (host, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// A path below the home of the user.
pub(super) fn home(path: &str) -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use walport_engine::settings::{Source, Table};

    use super::super::SETTINGS;
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
        for (name, value) in values {
            settings.set(name, value, Source::Environment((*name).to_owned())).unwrap();
        }
        settings
    }

    #[test]
    fn targets_are_read() {
        let settings = settings(&[
            ("WALG_SSH_USERNAME", "pg"),
            ("SSH_PORT", "2222"),
            ("SSH_PASSWORD", "secret"),
        ]);
        let config = Config::new("ssh://host/var/backups/", &settings).unwrap();
        assert_eq!((config.host.as_str(), config.port, config.user.as_str()), ("host", 2222, "pg"));
        assert_eq!(config.root, "/var/backups");
        assert!(!format!("{config:?}").contains("secret"));
        let config = Config::new("ssh://me@[::1]:22/x", &settings).unwrap();
        assert_eq!((config.host.as_str(), config.port, config.user.as_str()), ("::1", 22, "me"));
        for bad in ["ssh://host", "ssh:///path", "ssh://u:p@host/x", "ssh://host:port/x"] {
            assert!(Config::new(bad, &settings).is_err(), "{bad}");
        }
    }
}
