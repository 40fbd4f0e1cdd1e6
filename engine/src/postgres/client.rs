//! A session with a server, and what it tells about its cluster.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Row, ToStatement};

use super::connect::{self, Ended, Session};
use super::error;
use super::params::{Host, Params};
use super::session::Running;
use crate::error::{Class, Error, Kind, Result};
use crate::layout::Lsn;

/// How long a session may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// `archive_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveMode {
    /// Nothing is archived.
    Off,
    /// The primary archives.
    On,
    /// Standbys archive, too.
    Always,
}

/// What a server tells about its cluster.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// `server_version_num`: 150004 for 15.4.
    pub version_num: u32,
    /// The data directory, as the server names it.
    pub data_directory: PathBuf,
    /// Identifies the cluster; unknown if the role may not read it.
    pub system_identifier: Option<u64>,
    /// The size of a WAL segment in bytes.
    pub wal_segment_size: u64,
    /// The size of a data page in bytes.
    pub block_size: u32,
    /// The size of a WAL page in bytes.
    pub wal_block_size: u32,
    /// Pages carry checksums.
    pub data_checksums: bool,
    /// It is a standby, or recovers.
    pub in_recovery: bool,
    /// The timeline: of the next WAL record on a primary, of the control file
    /// on a standby.
    pub timeline: u32,
    /// Who archives.
    pub archive_mode: ArchiveMode,
    /// The archive command; empty if none is set or the role may not read it.
    pub archive_command: String,
    /// The archive library (PostgreSQL 15 and newer); empty if none is set.
    pub archive_library: String,
}

/// A session. Dropping it ends the session, and with it a backup that it runs.
pub struct Client {
    pub(super) sql: Arc<tokio_postgres::Client>,
    pub(super) ended: tokio::sync::watch::Sender<Ended>,
    driver: Option<JoinHandle<()>>,
    params: Params,
    host: Host,
    pub(super) version: u32,
    pub(super) alive_interval: Option<Duration>,
    pub(super) stop_timeout: Option<Duration>,
    /// The backup that this session runs.
    pub(super) running: Mutex<Option<Running>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(session: Session, params: Params, host: Host, version: u32) -> Self {
        Self {
            sql: Arc::new(session.sql),
            ended: session.ended,
            driver: Some(session.driver),
            params,
            host,
            version,
            alive_interval: None,
            stop_timeout: None,
            running: Mutex::new(None),
        }
    }

    pub(super) fn set_timing(&mut self, alive: Option<Duration>, stop: Option<Duration>) {
        self.alive_interval = alive.filter(|time| !time.is_zero());
        self.stop_timeout = stop.filter(|time| !time.is_zero());
    }

    /// The server that is connected.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The parameters that led here.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// `server_version_num`.
    pub fn version_num(&self) -> u32 {
        self.version
    }

    /// A session with another database of the same server.
    pub async fn connect_to(&self, database: &str) -> Result<Client> {
        connect::open(self.params.towards(&self.host, database)).await
    }

    /// Ends the session and waits, shortly, until the server knows.
    pub async fn close(mut self) {
        let driver = self.driver.take();
        drop(self);
        if let Some(driver) = driver {
            // Whether it said goodbye in time makes no difference to us.
            let _ = tokio::time::timeout(CLOSE_LIMIT, driver).await;
        }
    }

    /// Resolves when the session is lost: the connection ended, or the check of
    /// a running backup got no answer. Meant to be raced with the work that
    /// needs the session.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut ended = self.ended.subscribe();
        async move {
            let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match why {
                Some(why) => lost_error(&why),
                // The client is gone, so nobody can lose it any more.
                None => std::future::pending().await,
            }
        }
    }

    /// What the server tells about its cluster. The role must be a superuser or
    /// a member of `pg_read_all_settings`.
    pub async fn server(&self) -> Result<ServerInfo> {
        let rows = self
            .query(
                "cannot read the server's settings",
                "SELECT name, setting FROM pg_settings WHERE name IN ('data_directory', \
                 'wal_segment_size', 'block_size', 'wal_block_size', 'data_checksums', \
                 'archive_mode', 'archive_command', 'archive_library')",
            )
            .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push((text(row, 0)?, text(row, 1)?));
        }
        let setting = |name: &str| {
            found.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let data_directory = setting("data_directory").map(PathBuf::from).ok_or_else(|| {
            Error::new(
                Kind::Postgres,
                format!("role {:?} may not read data_directory", self.params.user),
            )
            .with_hint(format!(
                "Connect as a superuser, or run `GRANT pg_read_all_settings TO {}`.",
                self.params.user
            ))
        })?;
        let (in_recovery, timeline) = self.timeline().await?;
        Ok(ServerInfo {
            version_num: self.version,
            data_directory,
            system_identifier: self.system_identifier().await,
            wal_segment_size: number(setting("wal_segment_size"), "wal_segment_size")?,
            block_size: number(setting("block_size"), "block_size")?,
            wal_block_size: number(setting("wal_block_size"), "wal_block_size")?,
            data_checksums: setting("data_checksums") == Some("on"),
            in_recovery,
            timeline,
            archive_mode: match setting("archive_mode") {
                Some("on") => ArchiveMode::On,
                Some("always") => ArchiveMode::Always,
                _ => ArchiveMode::Off,
            },
            archive_command: setting("archive_command")
                // What the server shows while archive_mode is off.
                .filter(|command| *command != "(disabled)")
                .unwrap_or_default()
                .to_owned(),
            archive_library: setting("archive_library").unwrap_or_default().to_owned(),
        })
    }

    async fn system_identifier(&self) -> Option<u64> {
        let sql = "SELECT system_identifier FROM pg_control_system()";
        match self.query_one("cannot read the system identifier", sql).await {
            // SQL has no unsigned type; the bits are right.
            Ok(row) => row.try_get::<_, i64>(0).ok().map(i64::cast_unsigned),
            Err(error) => {
                log::warn!("{error}");
                None
            }
        }
    }

    /// Whether the server is in recovery, and its timeline.
    pub(super) async fn timeline(&self) -> Result<(bool, u32)> {
        let row = self
            .query_one(
                "cannot read the timeline",
                "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN NULL \
                 ELSE pg_walfile_name(pg_current_wal_lsn()) END, timeline_id \
                 FROM pg_control_checkpoint()",
            )
            .await?;
        let in_recovery: bool = get(&row, 0)?;
        let timeline = match get::<Option<&str>>(&row, 1)? {
            Some(segment) => timeline_of(segment)?,
            None => u32::try_from(get::<i32>(&row, 2)?)
                .map_err(|_| Error::new(Kind::Postgres, "the timeline is not a number"))?,
        };
        Ok((in_recovery, timeline))
    }

    /// The end of WAL: written on a primary; received or replayed on a standby,
    /// whichever is further.
    pub async fn current_lsn(&self) -> Result<Lsn> {
        let row = self
            .query_one(
                "cannot read the current WAL position",
                "SELECT CASE WHEN pg_is_in_recovery() \
                 THEN GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
                 ELSE pg_current_wal_lsn() END",
            )
            .await?;
        match get::<Option<PgLsn>>(&row, 0)? {
            Some(lsn) => Ok(Lsn(lsn.into())),
            None => Err(Error::new(Kind::Postgres, "the server has no WAL position yet")
                .with_class(Class::Transient)),
        }
    }

    /// Takes the lock that WAL-G takes for a backup that must be the only one;
    /// false if another session has it. Ends with the session.
    pub async fn try_lock_backups(&self) -> Result<bool> {
        let sql = "SELECT pg_try_advisory_lock(hashtext('pg_backup'))";
        get(&self.query_one("cannot take the backup lock", sql).await?, 0)
    }

    pub(super) async fn query(&self, what: &str, sql: &str) -> Result<Vec<Row>> {
        self.sql.query(sql, &[]).await.map_err(|e| error::statement(what, &e))
    }

    pub(super) async fn query_one<T>(&self, what: &str, sql: &T) -> Result<Row>
    where
        T: ?Sized + ToStatement,
    {
        self.sql.query_one(sql, &[]).await.map_err(|e| error::statement(what, &e))
    }
}

pub(super) fn lost_error(why: &str) -> Error {
    Error::new(Kind::Postgres, format!("the session with PostgreSQL is lost: {why}"))
        .with_class(Class::Transient)
        .with_hint("A base backup ends with its session: see the server's log, then run the command again.")
}

/// The timeline in a segment's name.
pub(super) fn timeline_of(segment: &str) -> Result<u32> {
    segment.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        Error::new(Kind::Postgres, format!("{segment:?} is not the name of a WAL segment"))
    })
}

pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T> {
    row.try_get(column).map_err(|e| error::statement("unexpected answer from PostgreSQL", &e))
}

fn text(row: &Row, column: usize) -> Result<String> {
    get::<Option<String>>(row, column).map(Option::unwrap_or_default)
}

fn number<T: std::str::FromStr>(text: Option<&str>, name: &str) -> Result<T> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(Kind::Postgres, format!("the server does not tell {name}")))
}
