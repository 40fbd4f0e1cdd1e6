//! The backup session: a base backup begins and ends in one SQL session, which
//! must live until the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;

use super::client::{Client, get, lost_error, timeline_of};
use super::error;
use crate::error::{Error, Kind, Result};
use crate::layout::{Lsn, Segment};

/// PostgreSQL 15 renamed the functions and dropped exclusive backups.
const RENAMED: u32 = 150_000;

/// How many intervals a ping may take, and the least time for it: a busy server
/// is not a lost one.
const PING_INTERVALS: u32 = 3;
const PING_FLOOR: Duration = Duration::from_secs(2);

/// The beginning of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// Where recovery of this backup begins.
    pub lsn: Lsn,
    /// The segment that gives the backup its name: on a primary the one that the
    /// server names, on a standby the one that holds the byte before `lsn`.
    pub segment_name: String,
    /// The timeline that the backup is on.
    pub timeline: u32,
    /// It is taken from a standby.
    pub standby: bool,
}

/// The end of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStop {
    /// The backup is consistent once recovery has come here.
    pub lsn: Lsn,
    /// The content of the file `backup_label`.
    pub backup_label: String,
    /// The content of the file `tablespace_map`; empty without tablespaces.
    pub tablespace_map: String,
}

/// A backup under way; dropping it ends the check of the session.
#[derive(Debug)]
pub(super) struct Running {
    start: BackupStart,
    alive: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.alive {
            task.abort();
        }
    }
}

impl Client {
    /// Begins a non-exclusive base backup: a checkpoint, at once if `fast`, else
    /// spread as `checkpoint_completion_target` says. From here until
    /// [`Client::stop_backup`] the session is pinged every
    /// `WALG_ALIVE_CHECK_INTERVAL`; race the work with [`Client::lost`].
    pub async fn start_backup(&self, label: &str, fast: bool) -> Result<BackupStart> {
        if self.running().is_some() {
            return Err(Error::new(Kind::Invalid, "this session already runs a base backup"));
        }
        let function = if self.version >= RENAMED {
            "pg_backup_start($1, $2)"
        } else {
            "pg_start_backup($1, $2, false)"
        };
        let sql = format!(
            "SELECT lsn, pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN NULL \
             ELSE (pg_walfile_name_offset(lsn)).file_name END FROM {function} AS lsn"
        );
        let row = self
            .sql
            .query_one(&sql, &[&label, &fast])
            .await
            .map_err(|e| error::statement("cannot begin a base backup", &e))?;
        let lsn = Lsn(get::<PgLsn>(&row, 0)?.into());
        let standby: bool = get(&row, 1)?;
        let (segment_name, timeline) = match get::<Option<String>>(&row, 2)? {
            Some(name) => {
                let timeline = timeline_of(&name)?;
                (name, timeline)
            }
            None => self.name_on_standby(lsn).await?,
        };
        let start = BackupStart { lsn, segment_name, timeline, standby };
        let alive = self.alive_interval.map(|interval| self.keep_alive(interval));
        *self.running() = Some(Running { start: start.clone(), alive });
        Ok(start)
    }

    /// A standby cannot name segments, so the name is built here, as WAL-G does.
    async fn name_on_standby(&self, lsn: Lsn) -> Result<(String, u32)> {
        let (_, timeline) = self.timeline().await?;
        let row = self
            .query_one(
                "cannot read the size of WAL segments",
                "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'",
            )
            .await?;
        let size = get::<i64>(&row, 0)?.cast_unsigned();
        let before = lsn.saturating_sub(1);
        Ok((Segment::of(timeline, before, size).name(size), timeline))
    }

    /// Ends the backup. On a server that archives, this returns when the last
    /// segment needed is archived, or fails after `WALG_STOP_BACKUP_TIMEOUT`.
    ///
    /// Fails with [`Kind::Changed`] if a standby changed its timeline meanwhile:
    /// such a backup must not be used.
    pub async fn stop_backup(&self) -> Result<BackupStop> {
        let running = self
            .running()
            .take()
            .ok_or_else(|| Error::new(Kind::Invalid, "this session runs no base backup"))?;
        let start = running.start.clone();
        // The call below may take long; from here on only the connection itself
        // can tell that the session is lost.
        drop(running);
        if self.sql.is_closed() {
            let why = self.ended.borrow().clone().unwrap_or_default();
            return Err(lost_error(&why));
        }
        let limit = self.stop_timeout.map_or(0, |limit| limit.as_millis().max(1));
        self.sql
            .batch_execute(&format!("SET statement_timeout = {limit}"))
            .await
            .map_err(|e| error::statement("cannot set the time limit", &e))?;
        let function =
            if self.version >= RENAMED { "pg_backup_stop()" } else { "pg_stop_backup(false)" };
        let sql = format!("SELECT lsn, labelfile, spcmapfile FROM {function}");
        let row = self.sql.query_one(&sql, &[]).await.map_err(|e| self.stop_error(&e))?;
        let stop = BackupStop {
            lsn: Lsn(get::<PgLsn>(&row, 0)?.into()),
            backup_label: get(&row, 1)?,
            tablespace_map: get::<Option<String>>(&row, 2)?.unwrap_or_default(),
        };
        self.sql
            .batch_execute("SET statement_timeout = 0")
            .await
            .map_err(|e| error::statement("cannot clear the time limit", &e))?;
        self.check_timeline(&start).await?;
        Ok(stop)
    }

    fn stop_error(&self, error: &tokio_postgres::Error) -> Error {
        let result = error::statement("cannot end the base backup", error);
        match self.stop_timeout {
            Some(limit) if error.code() == Some(&SqlState::QUERY_CANCELED) => result.with_hint(
                format!(
                    "The server waited more than {}s for WAL to be archived: check archive_command and the server's log, or raise WALG_STOP_BACKUP_TIMEOUT.",
                    limit.as_secs_f64()
                ),
            ),
            _ => result,
        }
    }

    /// A standby that follows a new timeline replays WAL that the name and the
    /// sentinel of this backup do not lead to.
    async fn check_timeline(&self, start: &BackupStart) -> Result<()> {
        if !start.standby {
            return Ok(());
        }
        let (in_recovery, timeline) = self.timeline().await?;
        if in_recovery && timeline == start.timeline {
            return Ok(());
        }
        Err(Error::new(
            Kind::Changed,
            format!(
                "the standby changed from timeline {} to {timeline} during the backup",
                start.timeline
            ),
        )
        .with_hint("This backup cannot be used: take another one."))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        lock(&self.running)
    }

    /// Pings the session, and gives it up if it does not answer.
    fn keep_alive(&self, interval: Duration) -> JoinHandle<()> {
        let sql = Arc::clone(&self.sql);
        let ended = self.ended.clone();
        let limit = interval.saturating_mul(PING_INTERVALS).max(PING_FLOOR);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let ping = tokio::time::timeout(limit, sql.check_connection());
                let why = match ping.await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error::flat(&error),
                    Err(_) => format!("no answer to a ping within {}s", limit.as_secs_f64()),
                };
                ended.send_if_modified(|ended| {
                    let first = ended.is_none();
                    ended.get_or_insert(why);
                    first
                });
                return;
            }
        })
    }
}

/// A poisoned lock holds a whole value all the same: it is only ever replaced.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
