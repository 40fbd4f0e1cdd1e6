//! Connecting: one host after the other, with and without TLS as `PGSSLMODE` says.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls};

use super::client::Client;
use super::error::{connection as connection_error, flat};
use super::params::{Address, ChannelBindingMode, Host, Params, SslMode, Target};
use super::tls::Connector;
use super::{MIN_VERSION, error};
use crate::error::{Class, Error, Kind, Result};
use crate::settings::Settings;

/// How long a silent connection may be dead before the kernel asks: without
/// this, a backup would wait for hours for a host that is gone.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// Why the session ended, once it has; read by [`Client::lost`].
pub(super) type Ended = Option<String>;

/// A session whose connection is served by a task of the current runtime.
pub(super) struct Session {
    pub sql: tokio_postgres::Client,
    pub ended: watch::Sender<Ended>,
    pub driver: JoinHandle<()>,
    /// `SQL_ASCII` databases hold bytes of any encoding.
    ascii: bool,
}

/// Connects as the PG settings say and prepares the session: no time-outs, and
/// a search path that nobody else can fill.
///
/// Must be called inside a runtime, which also serves the connection.
///
/// Fails with [`Kind::Config`] for parameters that cannot be used, and with
/// [`Kind::Postgres`] if no host lets us in; no password is part of an error.
pub async fn connect(settings: &Settings) -> Result<Client> {
    let mut client = open(Params::resolve(settings)?).await?;
    client.set_timing(
        settings.duration("WALG_ALIVE_CHECK_INTERVAL"),
        settings.duration("WALG_STOP_BACKUP_TIMEOUT"),
    );
    Ok(client)
}

/// Connects to the first host that will do.
pub(super) async fn open(params: Params) -> Result<Client> {
    let encrypted = params.hosts.iter().any(|host| matches!(host.address, Address::Tcp(_)))
        && params.ssl.mode != SslMode::Disable;
    let tls = encrypted.then(|| Connector::new(&params.ssl)).transpose()?;
    let passes: &[Target] = match params.target {
        Target::PreferStandby => &[Target::Standby, Target::Any],
        ref one => std::slice::from_ref(one),
    };
    let mut failures = Vec::new();
    for &target in passes {
        failures.clear();
        for host in &params.hosts {
            match limited(&params, host, tls.as_ref(), target).await {
                Ok((session, version)) => {
                    return Ok(Client::new(session, params.clone(), host.clone(), version));
                }
                Err(error) => failures.push(error),
            }
        }
    }
    Err(combine(failures))
}

/// One error for all hosts: the first one's, followed by what the others said.
fn combine(failures: Vec<Error>) -> Error {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return Error::new(Kind::Config, "there is no host to connect to");
    };
    let others: Vec<_> = failures.map(|error| error.message().to_owned()).collect();
    if others.is_empty() { first } else { first.context(others.join("; ")) }
}

/// [`attempt`], within `PGCONNECT_TIMEOUT`.
async fn limited(
    params: &Params,
    host: &Host,
    tls: Option<&Connector>,
    target: Target,
) -> Result<(Session, u32)> {
    let attempt = async {
        let session = attempt(params, host, tls).await?;
        let version = prepare(&session, host, target).await?;
        Ok((session, version))
    };
    let Some(limit) = params.connect_timeout else { return attempt.await };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| {
        Err(Error::new(
            Kind::Postgres,
            format!(
                "cannot connect to PostgreSQL at {host}: no answer within {}s",
                limit.as_secs()
            ),
        )
        .with_class(Class::Transient)
        .with_hint("Check PGHOST, PGPORT and the firewall, or raise PGCONNECT_TIMEOUT."))
    })
}

/// Connects to one host, as often as `PGSSLMODE` asks for.
async fn attempt(params: &Params, host: &Host, tls: Option<&Connector>) -> Result<Session> {
    let modes: &[DriverSslMode] = match (&host.address, params.ssl.mode) {
        (Address::Socket(_), _) | (_, SslMode::Disable) => &[DriverSslMode::Disable],
        (_, SslMode::Allow) => &[DriverSslMode::Disable, DriverSslMode::Require],
        (_, SslMode::Prefer) => &[DriverSslMode::Prefer, DriverSslMode::Disable],
        _ => &[DriverSslMode::Require],
    };
    let mut first: Option<tokio_postgres::Error> = None;
    for &mode in modes {
        if first.as_ref().is_some_and(|error| !depends_on_tls(error)) {
            break;
        }
        let config = configure(params, host, mode);
        let outcome = match tls {
            Some(tls) if mode != DriverSslMode::Disable => {
                config.connect(tls.clone()).await.map(|(sql, link)| drive(sql, link))
            }
            _ => config.connect(NoTls).await.map(|(sql, link)| drive(sql, link)),
        };
        match outcome {
            Ok(session) => return Ok(session),
            // The first attempt is the one that was preferred, so its error is told.
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(match first {
        Some(error) => connection_error(host, params, &error),
        None => Error::new(Kind::Internal, "no way to connect was tried"),
    })
}

/// Whether the other kind of connection may succeed where this one failed: the
/// handshake failed, or pg_hba.conf has no line for it.
fn depends_on_tls(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(state) => *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => error.to_string().contains("TLS"),
    }
}

fn configure(params: &Params, host: &Host, mode: DriverSslMode) -> Config {
    let mut config = Config::new();
    config
        .user(&params.user)
        .dbname(&params.database)
        .application_name(&params.application_name)
        .port(host.port)
        .ssl_mode(mode)
        .ssl_negotiation(if params.ssl.direct && mode == DriverSslMode::Require {
            SslNegotiation::Direct
        } else {
            SslNegotiation::Postgres
        })
        .channel_binding(match params.ssl.channel_binding {
            ChannelBindingMode::Disable => ChannelBinding::Disable,
            ChannelBindingMode::Prefer => ChannelBinding::Prefer,
            ChannelBindingMode::Require => ChannelBinding::Require,
        })
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    match &host.address {
        Address::Socket(directory) => config.host_path(directory),
        Address::Tcp(name) => config.host(name),
    };
    if let (Address::Tcp(_), Some(ip)) = (&host.address, host.ip) {
        config.hostaddr(ip);
    }
    if let Some(password) = params.password(host) {
        config.password(password.expose());
    }
    if let Some(options) = &params.options {
        config.options(options);
    }
    config
}

/// Serves the connection in a task, and passes on what the server says unasked.
fn drive<S, T>(sql: tokio_postgres::Client, mut connection: Connection<S, T>) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ascii = connection.parameter("server_encoding") == Some("SQL_ASCII");
    let (ended, _) = watch::channel(None);
    let teller = ended.clone();
    let driver = tokio::spawn(async move {
        let why = loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    log::info!("PostgreSQL: {}: {}", notice.severity(), notice.message());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => break flat(&error),
                None => break "the server closed the connection".to_owned(),
            }
        };
        // A failed check of the session may have given its reason before.
        teller.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    });
    Session { sql, ended, driver, ascii }
}

/// Sets the session up and checks version and role; returns the version.
async fn prepare(session: &Session, host: &Host, target: Target) -> Result<u32> {
    let what = format!("cannot use PostgreSQL at {host}");
    // A time-out set for the role must not end a backup that runs for hours.
    let mut setup =
        "SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN \
        ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout', \
        'idle_in_transaction_session_timeout'); SET search_path = pg_catalog"
            .to_owned();
    if session.ascii {
        setup.push_str("; SET client_encoding = 'SQL_ASCII'");
    }
    session.sql.batch_execute(&setup).await.map_err(|e| error::statement(&what, &e))?;
    let row = session
        .sql
        .query_one(
            "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
             current_setting('transaction_read_only') = 'on'",
            &[],
        )
        .await
        .map_err(|e| error::statement(&what, &e))?;
    let version: i32 = row.get(0);
    let (standby, read_only): (bool, bool) = (row.get(1), row.get(2));
    let version = u32::try_from(version).unwrap_or(0);
    if version < MIN_VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{what}: version {}.{} is too old", version / 10_000, version / 100 % 100),
        )
        .with_hint("Walport needs PostgreSQL 13 or newer."));
    }
    let wrong = match target {
        Target::Any | Target::PreferStandby => None,
        Target::ReadWrite => read_only.then_some("it does not accept writes"),
        Target::ReadOnly => (!read_only).then_some("it accepts writes"),
        Target::Primary => standby.then_some("it is a standby"),
        Target::Standby => (!standby).then_some("it is not a standby"),
    };
    match wrong {
        None => Ok(version),
        Some(why) => Err(Error::new(Kind::Postgres, format!("{what}: {why}"))
            .with_hint("PGTARGETSESSIONATTRS asks for another kind of server.")),
    }
}
