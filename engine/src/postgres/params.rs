//! Connection parameters, resolved as libpq does it: the service file, then the
//! PG settings, then defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{passfile, service};
use crate::error::{Error, Kind, Result};
use crate::settings::{Settings, parse_bool};

const SOCKET_DIRECTORIES: &[&str] = &["/var/run/postgresql", "/tmp"];
const DEFAULT_PORT: u16 = 5432;

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The directory of its socket.
    Socket(PathBuf),
    /// A host name or an IP address.
    Tcp(String),
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its socket directory or its name.
    pub address: Address,
    /// The address to connect to, instead of looking up the name.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Socket(directory) => {
                write!(f, "socket {}/.s.PGSQL.{}", directory.display(), self.port)
            }
            Address::Tcp(name) => match self.ip {
                Some(ip) if ip.to_string() != *name => {
                    write!(f, "{name} ({ip}) port {}", self.port)
                }
                _ => write!(f, "{name} port {}", self.port),
            },
        }
    }
}

/// `PGTARGETSESSIONATTRS`: which of the hosts will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any server.
    Any,
    /// One that accepts writes.
    ReadWrite,
    /// One that refuses writes.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// One that is in recovery; any, if there is none.
    PreferStandby,
}

/// `PGSSLMODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can.
    Prefer,
    /// Always; the certificate is checked only if an authority is given.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for that host.
    VerifyFull,
}

/// `PGCHANNELBINDING`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBindingMode {
    /// Never.
    Disable,
    /// If the server can.
    Prefer,
    /// Always.
    Require,
}

/// How to encrypt the connection, and whom to trust.
#[derive(Debug, Clone)]
pub struct SslParams {
    /// Whether at all.
    pub mode: SslMode,
    /// The client certificate; always together with `key`.
    pub certificate: Option<PathBuf>,
    /// The key of the client certificate.
    pub key: Option<PathBuf>,
    /// The file of authorities, or `system`.
    pub root: Option<PathBuf>,
    /// Send the host name.
    pub sni: bool,
    /// Begin TLS without asking the server.
    pub direct: bool,
    /// Tie the password exchange to the connection.
    pub channel_binding: ChannelBindingMode,
}

/// Everything needed to connect. Printing it shows no password.
#[derive(Debug, Clone)]
pub struct Params {
    /// The servers to try, in order; never empty.
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    password: Option<Secret>,
    passfile: Option<PathBuf>,
    /// The name that the server shows.
    pub application_name: String,
    /// Options for the server.
    pub options: Option<String>,
    /// How long to wait for each host.
    pub connect_timeout: Option<Duration>,
    /// Which of the hosts will do.
    pub target: Target,
    /// Encryption.
    pub ssl: SslParams,
}

impl Params {
    /// Reads the settings, the service file and the defaults of the system.
    /// The password file is only read when a host is tried.
    pub fn resolve(settings: &Settings) -> Result<Self> {
        let home = std::env::home_dir();
        let sources = Sources::new(settings, home.as_deref())?;
        let user = match sources.get("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|error| {
                Error::new(Kind::Config, "the name of the operating system user is unknown")
                    .with_hint("Set PGUSER.")
                    .with_source(error)
            })?,
        };
        let database = sources.get("dbname").map_or_else(|| user.clone(), str::to_owned);
        Ok(Self {
            hosts: sources.hosts()?,
            database,
            user,
            password: sources.get("password").map(|text| Secret(text.to_owned())),
            passfile: sources.path("passfile", home.as_deref(), ".pgpass"),
            application_name: sources
                .get("application_name")
                .or_else(|| settings.text("PGAPPNAME"))
                .unwrap_or("walport")
                .to_owned(),
            options: sources.get("options").map(str::to_owned),
            connect_timeout: sources.connect_timeout()?,
            target: sources.target()?,
            ssl: sources.ssl(home.as_deref())?,
        })
    }

    /// The same, towards another database of the same server.
    pub(super) fn towards(&self, host: &Host, database: &str) -> Self {
        Self {
            hosts: vec![host.clone()],
            database: database.to_owned(),
            target: Target::Any,
            ..self.clone()
        }
    }

    /// The password for `host`: the one that is set, else the one in the
    /// password file.
    pub fn password(&self, host: &Host) -> Option<Secret> {
        if self.password.is_some() {
            return self.password.clone();
        }
        let directory;
        let names: &[&str] = match &host.address {
            // libpq knows the default socket directory as `localhost`; WAL-G's
            // driver knows every socket as that.
            Address::Socket(path) => {
                directory = path.to_string_lossy();
                &[&directory, "localhost"]
            }
            Address::Tcp(name) => &[name],
        };
        let wanted = passfile::Wanted {
            hosts: names,
            port: host.port,
            database: &self.database,
            user: &self.user,
        };
        passfile::lookup(self.passfile.as_deref()?, wanted).map(Secret)
    }
}

/// Where values come from: libpq's keyword, our setting.
const KEYWORDS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslsni", "PGSSLSNI"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];

struct Sources<'a> {
    service: BTreeMap<String, String>,
    settings: &'a Settings,
}

impl<'a> Sources<'a> {
    fn new(settings: &'a Settings, home: Option<&Path>) -> Result<Self> {
        let service = match set(settings, "PGSERVICE") {
            None => BTreeMap::new(),
            Some(name) => service::load(name, &service_files(settings, home))?,
        };
        for key in service.keys() {
            if !KEYWORDS.iter().any(|(keyword, _)| keyword == key) {
                log::warn!("the service file sets {key}, which Walport does not use");
            }
        }
        Ok(Self { service, settings })
    }

    /// The value of a keyword; empty counts as unset.
    fn get(&self, keyword: &str) -> Option<&str> {
        if let Some(text) = self.service.get(keyword) {
            return Some(text.as_str()).filter(|text| !text.is_empty());
        }
        let (_, name) = KEYWORDS.iter().find(|(known, _)| *known == keyword)?;
        set(self.settings, name)
    }

    fn choice<T: Copy>(&self, keyword: &str, default: T, words: &[(&str, T)]) -> Result<T> {
        let Some(text) = self.get(keyword) else { return Ok(default) };
        words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text.trim()))
            .map(|(_, value)| *value)
            .ok_or_else(|| invalid(keyword, text))
    }

    /// A path, or `name` in the home directory.
    fn path(&self, keyword: &str, home: Option<&Path>, name: &str) -> Option<PathBuf> {
        self.get(keyword).map(PathBuf::from).or_else(|| Some(home?.join(name)))
    }

    fn hosts(&self) -> Result<Vec<Host>> {
        let list = |keyword| -> Vec<&str> {
            self.get(keyword)
                .map(|text| text.split(',').map(str::trim).collect())
                .unwrap_or_default()
        };
        let (names, ips, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = names.len().max(ips.len()).max(1);
        if !names.is_empty() && !ips.is_empty() && names.len() != ips.len() {
            return Err(Error::new(
                Kind::Config,
                format!("PGHOST has {} entries and PGHOSTADDR {}", names.len(), ips.len()),
            ));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(Error::new(
                Kind::Config,
                format!("PGPORT has {} entries for {count} hosts", ports.len()),
            )
            .with_hint("Give one port for all hosts, or one for each."));
        }
        (0..count)
            .map(|index| {
                let port = match ports.get(index).or(ports.first()).copied().unwrap_or_default() {
                    "" => DEFAULT_PORT,
                    text => text
                        .parse()
                        .ok()
                        .filter(|&port| port > 0)
                        .ok_or_else(|| invalid("port", text))?,
                };
                let ip = match ips.get(index).copied().unwrap_or_default() {
                    "" => None,
                    text => Some(text.parse::<IpAddr>().map_err(|_| invalid("hostaddr", text))?),
                };
                let address = match (names.get(index).copied().unwrap_or_default(), ip) {
                    ("", None) => Address::Socket(default_socket(port)),
                    ("", Some(ip)) => Address::Tcp(ip.to_string()),
                    (path, _) if path.starts_with('/') => Address::Socket(PathBuf::from(path)),
                    (name, _) => Address::Tcp(name.to_owned()),
                };
                Ok(Host { address, ip, port })
            })
            .collect()
    }

    fn connect_timeout(&self) -> Result<Option<Duration>> {
        let Some(text) = self.get("connect_timeout") else { return Ok(None) };
        let seconds: i64 = text.trim().parse().map_err(|_| invalid("connect_timeout", text))?;
        Ok(u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs))
    }

    fn target(&self) -> Result<Target> {
        self.choice(
            "target_session_attrs",
            Target::Any,
            &[
                ("any", Target::Any),
                ("read-write", Target::ReadWrite),
                ("read-only", Target::ReadOnly),
                ("primary", Target::Primary),
                ("standby", Target::Standby),
                ("prefer-standby", Target::PreferStandby),
            ],
        )
    }

    fn ssl(&self, home: Option<&Path>) -> Result<SslParams> {
        let root = self.path("sslrootcert", home, ".postgresql/root.crt");
        let given = self.get("sslrootcert").is_some();
        let root = root.filter(|path| given || path.exists());
        let mode = self.choice(
            "sslmode",
            // Trusting every authority of the system makes sense only with the name checked.
            if root.as_deref() == Some(Path::new("system")) {
                SslMode::VerifyFull
            } else {
                SslMode::Prefer
            },
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        let direct =
            self.choice("sslnegotiation", false, &[("postgres", false), ("direct", true)])?;
        if direct && matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer) {
            return Err(Error::new(
                Kind::Config,
                "PGSSLNEGOTIATION=direct cannot be used with a weak PGSSLMODE",
            )
            .with_hint("Set PGSSLMODE to require, verify-ca or verify-full."));
        }
        let certificate = self.path("sslcert", home, ".postgresql/postgresql.crt");
        let certificate = certificate.filter(|path| self.get("sslcert").is_some() || path.exists());
        Ok(SslParams {
            mode,
            key: certificate
                .is_some()
                .then(|| self.path("sslkey", home, ".postgresql/postgresql.key"))
                .flatten(),
            certificate,
            root,
            sni: match self.get("sslsni") {
                None => true,
                Some(text) => parse_bool(text).map_err(|()| invalid("sslsni", text))?,
            },
            direct,
            channel_binding: self.choice(
                "channel_binding",
                ChannelBindingMode::Prefer,
                &[
                    ("disable", ChannelBindingMode::Disable),
                    ("prefer", ChannelBindingMode::Prefer),
                    ("require", ChannelBindingMode::Require),
                ],
            )?,
        })
    }
}

/// The value of a setting that something set, and not to nothing.
fn set<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.is_set(name).then(|| settings.text(name)).flatten().filter(|text| !text.is_empty())
}

fn service_files(settings: &Settings, home: Option<&Path>) -> Vec<PathBuf> {
    let own = match set(settings, "PGSERVICEFILE") {
        Some(path) => Some(PathBuf::from(path)),
        None => home.map(|home| home.join(".pg_service.conf")),
    };
    let system = set(settings, "PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    own.into_iter().chain([Path::new(system).join("pg_service.conf")]).collect()
}

/// The directory that holds the socket of a server at `port`.
fn default_socket(port: u16) -> PathBuf {
    let socket = format!(".s.PGSQL.{port}");
    let holding = SOCKET_DIRECTORIES.iter().find(|path| Path::new(path).join(&socket).exists());
    PathBuf::from(holding.unwrap_or(&SOCKET_DIRECTORIES[0]))
}

fn invalid(keyword: &str, text: &str) -> Error {
    let name = KEYWORDS.iter().find(|(known, _)| *known == keyword).map_or(keyword, |row| row.1);
    Error::new(Kind::Config, format!("{name} cannot be {text:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::settings::{Source, Table};

    fn resolve(values: &[(&str, &str)]) -> Result<Params> {
        let mut settings = Settings::new(Arc::new(Table::new(super::super::SETTINGS)));
        for (name, value) in values {
            settings.set(name, value, Source::Environment((*name).to_owned())).unwrap();
        }
        Params::resolve(&settings)
    }

    fn shown(values: &[(&str, &str)]) -> Vec<String> {
        resolve(values).unwrap().hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hosts_and_ports_are_paired() {
        assert_eq!(
            shown(&[("PGHOST", "a, /run/pg ,::1"), ("PGPORT", "1,,3")]),
            ["a port 1", "socket /run/pg/.s.PGSQL.5432", "::1 port 3"]
        );
        assert_eq!(shown(&[("PGHOST", "a,b"), ("PGPORT", "7")]), ["a port 7", "b port 7"]);
        assert_eq!(
            shown(&[("PGHOST", "a,b"), ("PGHOSTADDR", "10.0.0.1,")]),
            ["a (10.0.0.1) port 5432", "b port 5432"]
        );
        assert_eq!(shown(&[("PGHOSTADDR", "10.0.0.1")]), ["10.0.0.1 port 5432"]);
        assert!(shown(&[])[0].starts_with("socket /"));
        for bad in [
            &[("PGHOST", "a,b"), ("PGPORT", "1,2,3")],
            &[("PGHOST", "a,b"), ("PGHOSTADDR", "10.0.0.1")],
            &[("PGHOST", "a"), ("PGPORT", "0")],
            &[("PGHOST", "a"), ("PGPORT", "65536")],
            &[("PGHOST", "a"), ("PGHOSTADDR", "b")],
        ] {
            assert_eq!(resolve(bad).unwrap_err().kind(), Kind::Config, "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_set_has_a_default() {
        let params = resolve(&[("PGUSER", "bob"), ("PGHOST", "")]).unwrap();
        assert_eq!((params.user.as_str(), params.database.as_str()), ("bob", "bob"));
        assert_eq!(params.application_name, "walport");
        assert_eq!((params.connect_timeout, params.target), (None, Target::Any));
        assert_eq!(params.ssl.channel_binding, ChannelBindingMode::Prefer);
        assert!(params.ssl.sni && !params.ssl.direct);
        let params = resolve(&[("PGCONNECT_TIMEOUT", "0"), ("PGSSLROOTCERT", "system")]).unwrap();
        assert_eq!(params.connect_timeout, None);
        assert_eq!(params.ssl.mode, SslMode::VerifyFull, "as libpq does for `system`");
    }

    #[test]
    fn no_password_is_shown() {
        let params = resolve(&[("PGPASSWORD", "sesame")]).unwrap();
        assert_eq!(params.password(&params.hosts[0]).unwrap().expose(), "sesame");
        let text = format!("{params:?} {:#?} {:?}", params, params.password(&params.hosts[0]));
        assert!(!text.contains("sesame") && text.contains("(hidden)"), "{text}");
    }
}
