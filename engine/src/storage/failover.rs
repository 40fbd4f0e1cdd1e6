//! Failover storages: which of several to use, and reading them as one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use tokio::time::timeout;

use super::alive::{Aliveness, Average, cache_file, weight};
use super::faulty::Op;
use super::merge::{self, Member};
use super::{
    Body, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage,
    StorageExt, Store, Stored,
};
use crate::settings::Settings;

/// What a test of writing stores for a moment, as in WAL-G.
pub const CHECK_OBJECT: &str = "wal-g_storage_check";
/// The name of the primary storage.
pub const PRIMARY: &str = "default";

/// A storage with its name.
#[derive(Debug, Clone)]
pub struct Named {
    /// `default`, or the name in `WALG_FAILOVER_STORAGES`.
    pub name: String,
    /// `name#hash`, the hash being one of the configuration: what the file that
    /// processes share calls it.
    pub id: String,
    /// The storage.
    pub store: Store,
}

impl Named {
    fn member(&self) -> Member<'_> {
        Member { name: &self.name, store: self.store.as_ref(), optional: false }
    }
}

/// What a storage is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// How storages are tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// How long a test may take.
    pub timeout: Duration,
    /// Bytes written by a test of writing.
    pub size: u64,
    /// How long its answer is believed.
    pub lifetime: Duration,
    /// How answers of operations count.
    pub average: Average,
    /// The file that processes share.
    pub file: Option<PathBuf>,
}

impl Check {
    /// What the settings say; `None` if tests are switched off.
    pub fn from_settings(settings: &Settings, access: Access) -> Result<Option<Self>> {
        let off = settings.text("WALG_FAILOVER_STORAGES_CHECK").is_some()
            && !settings.flag("WALG_FAILOVER_STORAGES_CHECK");
        if off {
            return Ok(None);
        }
        Ok(Some(Self {
            timeout: settings
                .duration("WALG_FAILOVER_STORAGES_CHECK_TIMEOUT")
                .unwrap_or(Duration::from_secs(30)),
            size: settings.size("WALG_FAILOVER_STORAGES_CHECK_SIZE").unwrap_or(1 << 20),
            lifetime: settings
                .duration("WALG_FAILOVER_STORAGES_CACHE_LIFETIME")
                .unwrap_or(Duration::from_secs(900)),
            average: Average::from_settings(settings)?,
            file: Some(cache_file(access == Access::Write)),
        }))
    }
}

/// The primary storage and those to fall back to.
#[derive(Debug)]
pub struct Failover {
    storages: Vec<Named>,
    access: Access,
    check: Option<(Check, Arc<Aliveness>)>,
}

impl Failover {
    /// `primary`, then `others` in the order of their ids. Without `check`, or
    /// with nothing to fall back to, every storage counts as alive.
    pub fn new(
        primary: Named,
        mut others: Vec<Named>,
        access: Access,
        check: Option<Check>,
    ) -> Self {
        others.sort_by(|one, other| one.id.cmp(&other.id));
        let mut storages = vec![primary];
        storages.append(&mut others);
        let check = check.filter(|_| storages.len() > 1).map(|check| {
            let alive = Aliveness::new(check.average, check.lifetime, check.file.clone());
            (check, Arc::new(alive))
        });
        if let Some((_, alive)) = &check {
            for storage in &mut storages {
                let inner = Arc::clone(&storage.store);
                storage.store =
                    Arc::new(Reporting { inner, id: storage.id.clone(), alive: Arc::clone(alive) });
            }
        }
        Self { storages, access, check }
    }

    /// Every storage, alive or not, in order.
    pub fn all(&self) -> &[Named] {
        &self.storages
    }

    /// The first storage that is alive: what is written goes there, and nowhere else.
    pub async fn first_alive(&self) -> Result<&Named> {
        let ask = |known: &[Option<bool>]| {
            let first = known.iter().position(|alive| *alive != Some(false))?;
            // One of unknown health stands before any other.
            (known[first] == Some(true)).then_some(first)
        };
        let mut found = None;
        self.test_until(|known| {
            found = ask(known);
            found.is_some()
        })
        .await;
        found.map(|index| &self.storages[index]).ok_or_else(|| self.none_alive())
    }

    /// Every storage that is alive, in order; fails if none is.
    pub async fn all_alive(&self) -> Result<Vec<&Named>> {
        let mut found = Vec::new();
        self.test_until(|known| {
            found = (0..known.len()).filter(|&index| known[index] == Some(true)).collect();
            !found.is_empty() && known.iter().all(Option::is_some)
        })
        .await;
        if found.is_empty() {
            return Err(self.none_alive());
        }
        Ok(found.into_iter().map(|index| &self.storages[index]).collect())
    }

    /// The storage of this name (`--target-storage`), if it is alive.
    pub async fn named(&self, name: &str) -> Result<&Named> {
        let name = name.to_lowercase();
        let Some(index) = self.storages.iter().position(|storage| storage.name == name) else {
            let known: Vec<_> = self.storages.iter().map(|storage| storage.name.as_str()).collect();
            return Err(Error::new(Kind::Config, format!("there is no storage named {name:?}"))
                .with_hint(format!("The configured storages are: {}.", known.join(", "))));
        };
        let storage = &self.storages[index];
        let Some((check, alive)) = &self.check else { return Ok(storage) };
        if alive.recent(&storage.id) == Some(true) || self.test(check, alive, storage).await {
            return Ok(storage);
        }
        Err(Error::new(Kind::Unavailable, format!("the storage {name} is not alive"))
            .with_hint("Messages before this say what its test met."))
    }

    /// Gives `enough` what is known of the storages, and tests those of which
    /// nothing is known, then the dead ones, until it is enough.
    async fn test_until(&self, mut enough: impl FnMut(&[Option<bool>]) -> bool) {
        let Some((check, alive)) = &self.check else {
            enough(&vec![Some(true); self.storages.len()]);
            return;
        };
        let mut known: Vec<_> =
            self.storages.iter().map(|storage| alive.recent(&storage.id)).collect();
        let mut tested = BTreeSet::new();
        for round in 0..3 {
            if enough(&known) {
                return;
            }
            let wanted: Vec<usize> = (0..known.len())
                .filter(|index| !tested.contains(index) && (round > 0 || known[*index].is_none()))
                .collect();
            let tests = wanted.iter().map(|&index| self.test(check, alive, &self.storages[index]));
            for (&index, answer) in wanted.iter().zip(join_all(tests).await) {
                known[index] = Some(answer);
                tested.insert(index);
            }
        }
    }

    async fn test(&self, check: &Check, alive: &Aliveness, storage: &Named) -> bool {
        let answer = timeout(check.timeout, probe(storage, self.access, check.size)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::Stalled,
                format!("no answer within {} s", check.timeout.as_secs_f64()),
            ))
        });
        if let Err(error) = &answer {
            log::error!("storage {}: {error}", storage.name);
        }
        alive.checked(&storage.id, answer.is_ok());
        answer.is_ok()
    }

    fn none_alive(&self) -> Error {
        let names: Vec<_> = self.storages.iter().map(|storage| storage.name.as_str()).collect();
        Error::new(Kind::Unavailable, format!("no storage is alive of {}", names.join(", ")))
            .with_hint("Messages before this say what the tests of each storage met.")
    }
}

/// Lists the root; for writing, stores an object and removes it, and, unlike
/// WAL-G, waits for the answer.
async fn probe(storage: &Named, access: Access, size: u64) -> Result<()> {
    let mut listing = storage.store.list(&Key::root(), List::default());
    if let Some(entry) = listing.next().await {
        entry?;
    }
    drop(listing);
    if access == Access::Write {
        let key = Key::parse(CHECK_OBJECT)?;
        storage.store.put(&key, noise(size), Put::default()).await?;
        storage.store.delete_one(&key).await?;
    }
    Ok(())
}

/// Random bytes, made a little at a time.
fn noise(size: u64) -> Body {
    const PIECE: u64 = 64 << 10;
    let source = move || {
        stream::unfold(size, |left| async move {
            let mut piece = vec![0; left.min(PIECE) as usize];
            fastrand::fill(&mut piece);
            (left > 0).then(|| (Ok(Bytes::from(piece)), left - left.min(PIECE)))
        })
        .boxed()
    };
    Body::again(Some(size), source)
}

/// Every entry of every storage, in order, each with the storage it is in: one
/// backup's name may come more than once.
pub fn united<'a>(
    storages: &[&'a Named],
    prefix: &Key,
    how: &List,
) -> BoxStream<'a, Result<(&'a Named, Entry)>> {
    let storages = storages.to_vec();
    let members = storages.iter().map(|storage| storage.member()).collect();
    merge::list(members, prefix, how, true)
        .map(move |found| found.map(|(index, entry)| (storages[index], entry)))
        .boxed()
}

/// Several storages read as one: an object is in the first of them that has it.
/// What is written goes to the first, what is deleted is deleted in each.
#[derive(Debug)]
pub struct Merged {
    storages: Vec<Named>,
    limits: Limits,
}

impl Merged {
    /// Reads `storages`, at least one, as one.
    pub fn new(storages: Vec<Named>) -> Result<Self> {
        if storages.is_empty() {
            return Err(Error::new(Kind::Internal, "no storage to read from"));
        }
        let limits = merge::limits(storages.iter().map(|storage| storage.store.limits()));
        Ok(Self { storages, limits })
    }

    fn members(&self) -> Vec<Member<'_>> {
        self.storages.iter().map(Named::member).collect()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Merged {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let mut stored = self.storages[0].store.put(key, body, how).await?;
        stored.version = merge::tag(0, stored.version);
        Ok(stored)
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        merge::get(&self.members(), key, how).await
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        merge::head(&self.members(), key).await
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        merge::entries(self.members(), prefix, &how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut all: Vec<Deleted> =
            keys.iter().map(|key| Deleted { key: key.clone(), outcome: Ok(()) }).collect();
        for storage in &self.storages {
            let deleted = storage
                .store
                .delete(keys)
                .await
                .map_err(|error| error.context(format!("storage {}", storage.name)))?;
            for (sum, deleted) in all.iter_mut().zip(deleted) {
                if let (Ok(()), Err(error)) = (&sum.outcome, deleted.outcome) {
                    sum.outcome = Err(error.context(format!("storage {}", storage.name)));
                }
            }
        }
        Ok(all)
    }

    /// Copies in each storage that has the source, as WAL-G does.
    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let mut stored: Option<Stored> = None;
        for (index, storage) in self.storages.iter().enumerate() {
            match storage.store.copy(from, to).await {
                Ok(done) => {
                    stored.get_or_insert(Stored {
                        size: done.size,
                        version: merge::tag(index, done.version),
                    });
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error.context(format!("storage {}", storage.name))),
            }
        }
        stored.ok_or_else(|| {
            Error::new(Kind::NotFound, "no such object").with_op("copy").with_key(from)
        })
    }
}

/// Tells what becomes of each operation to who keeps the averages.
#[derive(Debug)]
struct Reporting {
    inner: Store,
    id: String,
    alive: Arc<Aliveness>,
}

/// Whether an error says that the storage is not well; a missing object, say,
/// is an answer like any other.
fn is_sick(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unavailable
            | Kind::Stalled
            | Kind::Throttled
            | Kind::Denied
            | Kind::Unauthenticated
            | Kind::Full
            | Kind::Io
    )
}

impl Reporting {
    fn report(&self, op: Op, amount: u64, failure: Option<&Error>) {
        let sick = failure.is_some_and(|error| is_sick(error.kind()));
        self.alive.report(&self.id, !sick, weight(op, amount));
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Reporting {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let done = self.inner.put(key, body, how).await;
        self.report(Op::Put, done.as_ref().map_or(0, |stored| stored.size), done.as_ref().err());
        done
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut object = match self.inner.get(key, how).await {
            Ok(object) => object,
            Err(error) => {
                self.report(Op::Get, 0, Some(&error));
                return Err(error);
            }
        };
        let size = object.range.end - object.range.start;
        let (alive, id) = (Arc::clone(&self.alive), self.id.clone());
        let mut seen = 0;
        // Reported when the last byte, or an error in place of it, came.
        let body = object.body.inspect(move |chunk| match chunk {
            Ok(chunk) => {
                seen += chunk.len() as u64;
                if seen == size {
                    alive.report(&id, true, weight(Op::Get, size));
                }
            }
            Err(error) => alive.report(&id, !is_sick(error.kind()), weight(Op::Get, size)),
        });
        object.body = body.boxed();
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let done = self.inner.head(key).await;
        self.report(Op::Head, 0, done.as_ref().err());
        done
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let state = Some(self.inner.list(prefix, how));
        stream::unfold(state, |entries| async {
            let mut entries = entries?;
            match entries.next().await {
                None => {
                    self.report(Op::List, 0, None);
                    None
                }
                Some(Ok(entry)) => Some((Ok(entry), Some(entries))),
                Some(failed) => {
                    self.report(Op::List, 0, failed.as_ref().err());
                    Some((failed, None))
                }
            }
        })
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let done = self.inner.delete(keys).await;
        self.report(Op::Delete, keys.len() as u64, done.as_ref().err());
        done
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let done = self.inner.copy(from, to).await;
        self.report(Op::Copy, 0, done.as_ref().err());
        done
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
