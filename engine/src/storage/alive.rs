//! Which storages are alive: an average over what became of operations, shared
//! between processes in a small file, in WAL-G's form.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, OFlags};
use serde::{Deserialize, Serialize};

use super::faulty::Op;
use super::{Error, Kind, Result};
use crate::settings::Settings;

/// The file is written at most so often, and when work ends.
const FLUSH: Duration = Duration::from_secs(300);
/// A file beyond this size is not one of ours.
const LARGEST_FILE: u64 = 1 << 20;

/// When an average makes a storage dead or alive, and how fast it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// From here on a dead storage is alive again.
    pub alive_limit: f64,
    /// Below this a live storage is dead.
    pub dead_limit: f64,
    /// The weight of one answer of a live storage, least and most.
    pub alpha_alive: (f64, f64),
    /// The same of a dead one.
    pub alpha_dead: (f64, f64),
}

impl Default for Average {
    fn default() -> Self {
        Self {
            alive_limit: 0.99,
            dead_limit: 0.88,
            alpha_alive: (0.01, 0.05),
            alpha_dead: (0.1, 0.5),
        }
    }
}

impl Average {
    /// What the settings say. Fails with [`Kind::Config`] unless every value lies
    /// between 0 and 1 and the pairs are in order.
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let default = Self::default();
        let read = |name: &str, default: f64| {
            let value =
                settings.text(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default);
            if value > 0.0 && value < 1.0 {
                return Ok(value);
            }
            Err(Error::new(
                Kind::Config,
                format!("{name} must lie between 0 and 1, not be {value}"),
            ))
        };
        let average = Self {
            alive_limit: read("WALG_FAILOVER_STORAGES_CACHE_EMA_ALIVE_LIMIT", default.alive_limit)?,
            dead_limit: read("WALG_FAILOVER_STORAGES_CACHE_EMA_DEAD_LIMIT", default.dead_limit)?,
            alpha_alive: (
                read("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MIN", default.alpha_alive.0)?,
                read("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MAX", default.alpha_alive.1)?,
            ),
            alpha_dead: (
                read("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MIN", default.alpha_dead.0)?,
                read("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MAX", default.alpha_dead.1)?,
            ),
        };
        let ordered =
            [(average.dead_limit, average.alive_limit), average.alpha_alive, average.alpha_dead];
        if ordered.iter().any(|(low, high)| low > high) {
            return Err(Error::new(
                Kind::Config,
                "the limits of WALG_FAILOVER_STORAGES_CACHE_EMA are out of order",
            )
            .with_hint(
                "The alive limit must not be below the dead limit, nor a MAX below its MIN.",
            ));
        }
        Ok(average)
    }
}

/// The weight of an operation: larger ones say more. `amount` is the bytes of a
/// `put` or `get` and the keys of a `delete`.
pub fn weight(op: Op, amount: u64) -> f64 {
    let scaled = |base: f64, scale: u64| {
        if scale <= 1 { base } else { base * (1.0 + (scale as f64).log10()) }
    };
    match op {
        Op::Head => 1000.0,
        Op::List | Op::Copy => 2000.0,
        Op::Get | Op::Put => scaled(1000.0, amount >> 20),
        Op::Delete => scaled(500.0, amount),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Status {
    potential_aliveness: f64,
    actual_aliveness: f64,
    previous_aliveness: bool,
    #[serde(with = "go_time")]
    updated: DateTime<Utc>,
}

/// Times as Go's encoder writes them.
mod go_time {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::layout::gotime;

    pub(super) fn serialize<S: Serializer>(
        time: &DateTime<Utc>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&gotime::rfc3339_nano(time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = gotime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(time.with_timezone(&Utc))
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            potential_aliveness: 0.0,
            actual_aliveness: 0.0,
            previous_aliveness: false,
            updated: DateTime::UNIX_EPOCH,
        }
    }
}

impl Status {
    fn factor(&self, average: &Average) -> f64 {
        if self.potential_aliveness == 0.0 {
            return average.dead_limit;
        }
        self.actual_aliveness / self.potential_aliveness
    }

    fn is_alive(&self, average: &Average) -> bool {
        let limit = if self.previous_aliveness { average.dead_limit } else { average.alive_limit };
        self.factor(average) >= limit
    }

    fn alpha(&self, average: &Average) -> f64 {
        let (factor, (low, high)) = if self.is_alive(average) {
            (
                (self.factor(average) - average.dead_limit) / (1.0 - average.dead_limit),
                average.alpha_alive,
            )
        } else {
            (self.factor(average) / average.alive_limit, average.alpha_dead)
        };
        high + (low - high) * factor
    }

    fn checked(&mut self, alive: bool, now: DateTime<Utc>) {
        self.actual_aliveness = if alive { self.potential_aliveness } else { 0.0 };
        self.previous_aliveness = alive;
        self.updated = now;
    }

    fn reported(&mut self, average: &Average, success: bool, weight: f64, now: DateTime<Utc>) {
        let alpha = self.alpha(average);
        let was_alive = self.is_alive(average);
        let moved = |old: f64, new: f64| new * alpha + old * (1.0 - alpha);
        self.potential_aliveness = moved(self.potential_aliveness, weight);
        self.actual_aliveness = moved(self.actual_aliveness, if success { weight } else { 0.0 });
        self.previous_aliveness = was_alive;
        self.updated = now;
    }
}

/// What is known of storages, by their `name#hash`.
#[derive(Debug)]
pub struct Aliveness {
    average: Average,
    lifetime: Duration,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    statuses: BTreeMap<String, Status>,
    loaded: bool,
    written: Option<DateTime<Utc>>,
    dirty: bool,
}

impl Aliveness {
    /// Answers are believed for `lifetime` and kept in `file`, if one is given.
    pub fn new(average: Average, lifetime: Duration, file: Option<PathBuf>) -> Self {
        Self { average, lifetime, file, state: Mutex::default() }
    }

    /// Whether the storage is alive, if that was found out lately.
    pub fn recent(&self, id: &str) -> Option<bool> {
        let mut state = self.lock();
        if !state.loaded {
            state.loaded = true;
            self.load(&mut state);
        }
        let status = state.statuses.get(id)?;
        let age = Utc::now().signed_duration_since(status.updated).to_std().unwrap_or_default();
        (age <= self.lifetime).then(|| status.is_alive(&self.average))
    }

    /// Records what a test of the storage showed.
    pub fn checked(&self, id: &str, alive: bool) {
        self.change(id, |status, _| status.checked(alive, Utc::now()));
    }

    /// Records what became of an operation of this [`weight`].
    pub fn report(&self, id: &str, success: bool, weight: f64) {
        self.change(id, |status, average| status.reported(average, success, weight, Utc::now()));
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Status, &Average)) {
        let mut state = self.lock();
        change(state.statuses.entry(id.to_owned()).or_default(), &self.average);
        state.dirty = true;
        let age = state
            .written
            .map(|at| Utc::now().signed_duration_since(at).to_std().unwrap_or_default());
        if age.is_none_or(|age| age >= FLUSH) {
            self.write(&mut state);
        }
    }

    /// Writes what is not in the file yet. A file that cannot be written is only
    /// worth a warning: the next process tests the storages again.
    pub fn flush(&self) {
        let mut state = self.lock();
        if state.dirty {
            self.write(&mut state);
        }
    }

    fn load(&self, state: &mut State) {
        let Some(path) = &self.file else { return };
        match open(path, false).and_then(|mut file| read(&mut file)) {
            Ok(Some(found)) => {
                state.written =
                    std::fs::metadata(path).and_then(|meta| meta.modified()).ok().map(Into::into);
                merge(&mut state.statuses, found);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                log::warn!("cannot read the status of storages from {}: {error}", path.display());
            }
        }
    }

    fn write(&self, state: &mut State) {
        state.written = Some(Utc::now());
        state.dirty = false;
        let Some(path) = &self.file else { return };
        let mut written = || -> io::Result<()> {
            let mut file = open(path, true)?;
            if let Some(found) = read(&mut file)? {
                merge(&mut state.statuses, found);
            }
            let text = serde_json::to_vec(&state.statuses)?;
            file.set_len(0)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(&text)
        };
        match written() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                log::debug!("another process writes {}", path.display());
            }
            Err(error) => {
                log::warn!("cannot write the status of storages to {}: {error}", path.display());
            }
            Ok(()) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Aliveness {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Opens the file and locks it, without waiting for others. A link is refused:
/// the directory may be one that everybody can write to.
fn open(path: &Path, write: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .create(write)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    let how = if write {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    rustix::fs::flock(&file, how)?;
    Ok(file)
}

/// What the file says; nothing if it is new, or damaged, which heals by itself.
fn read(file: &mut File) -> io::Result<Option<BTreeMap<String, Status>>> {
    let mut text = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Of two statuses of one storage, the newer one counts.
fn merge(known: &mut BTreeMap<String, Status>, found: BTreeMap<String, Status>) {
    for (id, status) in found {
        if known.get(&id).is_none_or(|known| known.updated < status.updated) {
            known.insert(id, status);
        }
    }
}

/// Where WAL-G keeps such a file: the home directory, or that of temporary files.
pub fn cache_file(write: bool) -> PathBuf {
    let name =
        if write { ".walg_storage_rw_status_cache" } else { ".walg_storage_ro_status_cache" };
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from).join(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn aliveness() -> Aliveness {
        Aliveness::new(Average::default(), Duration::from_secs(900), None)
    }

    #[test]
    fn a_storage_dies_and_revives_as_in_walg() {
        let all = aliveness();
        assert_eq!(all.recent("a#1"), None);
        all.checked("a#1", true);
        assert_eq!(all.recent("a#1"), Some(true));
        for _ in 0..100 {
            all.report("a#1", true, 1000.0);
        }
        // A few failures in a row make a live storage dead...
        let failures = (1..100).find(|_| {
            all.report("a#1", false, 1000.0);
            all.recent("a#1") == Some(false)
        });
        assert!((5..=12).contains(&failures.unwrap()), "{failures:?}");
        all.checked("a#1", false);
        assert_eq!(all.recent("a#1"), Some(false));
        // ...and it takes more successes to bring a dead one back.
        let successes = (1..100).find(|_| {
            all.report("a#1", true, 1000.0);
            all.recent("a#1") == Some(true)
        });
        assert!((20..=30).contains(&successes.unwrap()), "{successes:?}");
    }

    #[test]
    fn weights_grow_with_the_size() {
        let rounded = |op, amount| weight(op, amount).round() as u64;
        assert_eq!(rounded(Op::Put, 0), 1000);
        assert_eq!(rounded(Op::Put, 10 << 20), 2000);
        assert_eq!(rounded(Op::Get, 100 << 20), 3000);
        assert_eq!(rounded(Op::Delete, 10), 1000);
        assert_eq!(
            [rounded(Op::Head, 9), rounded(Op::List, 9), rounded(Op::Copy, 9)],
            [1000, 2000, 2000]
        );
    }

    #[test]
    fn processes_share_a_file_in_walgs_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        let now = Utc::now().to_rfc3339();
        let text = format!(
            r#"{{"a#1":{{"potential_aliveness":50.5,"actual_aliveness":50.5,"previous_aliveness":true,"updated":"{now}"}},"b#2":{{"potential_aliveness":0,"actual_aliveness":0,"previous_aliveness":false,"updated":"2001-02-03T04:05:06.789+01:00"}}}}"#
        );
        std::fs::write(&path, text).unwrap();
        let shared =
            || Aliveness::new(Average::default(), Duration::from_secs(900), Some(path.clone()));
        let first = shared();
        assert_eq!((first.recent("a#1"), first.recent("b#2")), (Some(true), None));
        first.checked("a#1", false);
        first.checked("c#3", true);
        drop(first);
        let second = shared();
        assert_eq!((second.recent("a#1"), second.recent("c#3")), (Some(false), Some(true)));
        let held: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(held["a#1"]["potential_aliveness"], 50.5);
        assert_eq!(held["a#1"]["previous_aliveness"], false);
        // A damaged file is as good as none, and is written anew.
        std::fs::write(&path, "{half").unwrap();
        let third = shared();
        assert_eq!(third.recent("a#1"), None);
        third.checked("a#1", true);
        drop(third);
        assert_eq!(shared().recent("a#1"), Some(true));
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "data").unwrap();
        let path = directory.path().join("cache");
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let all = Aliveness::new(Average::default(), Duration::from_secs(900), Some(path));
        all.checked("a#1", true);
        all.flush();
        assert_eq!(std::fs::read(&precious).unwrap(), b"data");
        assert_eq!(all.recent("a#1"), Some(true));
    }
}
