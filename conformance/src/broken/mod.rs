//! Stores that lie, each in one way: they prove that the suite sees it. Put
//! one around any store that conforms.

mod list;
mod put;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use walport_engine::storage::{
    Body, Class, Deleted, Entry, Error, Get, InMemory, Key, Kind, Limits, List, Meta, Object, Put,
    Result, Storage, StorageExt, Store, Stored,
};

/// One way to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lie {
    /// A listing ends after its first 1,000 entries.
    ListsOnePage,
    /// A listing shows the last key of each page again on the next one.
    RepeatsAtPages,
    /// A listing comes in another order, although order is declared.
    ListsUnordered,
    /// A listing of `ab/` also shows what is under `abc`.
    ListsNeighbours,
    /// A listing after a key shows that key too.
    ListsAfterInclusive,
    /// A listing of one level shows no prefixes.
    ListsNoPrefixes,
    /// A listing of one level shows a prefix once for each object in it.
    ListsPrefixesAgain,
    /// A listing of nothing is an error.
    ListsNothingAsError,
    /// A listing gives each object another size than it has.
    ListsWrongSizes,
    /// Readers see an object while it is being written.
    ShowsPartial,
    /// A body that breaks is stored as far as it came.
    KeepsBroken,
    /// A writer that is killed leaves what it had.
    KeepsKilled,
    /// What was acknowledged is in the memory of this handle only.
    AcknowledgesEarly,
    /// A body of unknown size loses the byte past a border.
    LosesTail,
    /// The size that `put` reports is that of the last chunk.
    ReportsWrongSize,
    /// Replacing deletes first.
    DeletesBeforeReplace,
    /// Create-if-absent looks first and writes then.
    CreateRaces,
    /// Create-if-absent overwrites.
    CreateOverwrites,
    /// Create-if-absent that loses says nothing.
    CreateLosesSilently,
    /// Delete answers Ok and does nothing.
    DeleteLies,
    /// Delete forgets what goes past one batch.
    DeleteForgetsTail,
    /// Deleting a missing object is an error.
    DeleteRefusesMissing,
    /// Delete takes everything whose name begins so.
    DeleteTakesMore,
    /// A range begins one byte late.
    ShiftsRanges,
    /// A range that ends past the end is an error.
    RefusesLongRanges,
    /// A range that begins past the end is empty.
    AllowsFarRanges,
    /// A pinned read gives whatever is there now.
    IgnoresPin,
    /// A range of a missing object reads as nothing.
    ReadsMissingAsEmpty,
    /// Large reads end early, without an error.
    EndsSilently,
    /// `head` of a folder finds something.
    HeadFindsFolders,
    /// A copy loses its last byte.
    CopyLosesByte,
    /// A copy of nothing makes an empty object.
    CopiesMissing,
    /// Names are percent-decoded on the way in.
    DecodesNames,
    /// The time of every object is the second day of 1970.
    ForgetsTime,
    /// Errors do not name the object.
    NamelessErrors,
    /// Errors that cannot get better say that they can.
    EndlessErrors,
    /// The limits change from one opening to the next.
    ChangesLimits,
}

/// The cases that look at a listing of nothing.
const EMPTY_LISTINGS: &[&str] = &[
    "put.atomic",
    "put.wrong-size",
    "list.empty",
    "list.after",
    "list.prefix-is-exact",
    "keys.awkward",
    "delete.gone",
    "delete.missing",
    "delete.batch",
    "copy.missing",
];

impl Lie {
    /// Every lie, with the cases that fail on it; all others pass.
    pub const ALL: &[(Lie, &[&str])] = &[
        (Lie::ListsOnePage, &["list.pages"]),
        (Lie::RepeatsAtPages, &["list.pages"]),
        (Lie::ListsUnordered, &["list.order", "list.after"]),
        (Lie::ListsNeighbours, &["list.prefix-is-exact", "layout.levels"]),
        (Lie::ListsAfterInclusive, &["list.after"]),
        (Lie::ListsNoPrefixes, &["list.delimiter", "list.root", "layout.levels"]),
        (Lie::ListsPrefixesAgain, &["list.order", "list.delimiter", "layout.levels"]),
        (Lie::ListsNothingAsError, EMPTY_LISTINGS),
        (Lie::ListsWrongSizes, &["put.replace", "head.matches-list", "list.meta"]),
        (Lie::ShowsPartial, &["put.atomic", "put.replace-atomic"]),
        (Lie::KeepsBroken, &["put.abort", "put.wrong-size"]),
        (Lie::KeepsKilled, &["put.atomic"]),
        (Lie::AcknowledgesEarly, &["put.durable", "create.race", "layout.roundtrip"]),
        (Lie::LosesTail, &["put.sizes"]),
        (Lie::ReportsWrongSize, &["put.roundtrip"]),
        (Lie::DeletesBeforeReplace, &["put.replace-atomic"]),
        (Lie::CreateRaces, &["create.race"]),
        (Lie::CreateOverwrites, &["create.loser", "create.race", "error.classified"]),
        (Lie::CreateLosesSilently, &["create.loser", "create.race", "error.classified"]),
        (
            Lie::DeleteLies,
            &[
                "create.again",
                "keys.awkward",
                "delete.gone",
                "delete.missing",
                "delete.batch",
                "delete.exact",
            ],
        ),
        (Lie::DeleteForgetsTail, &["delete.batch"]),
        (Lie::DeleteRefusesMissing, &["delete.missing", "delete.batch", "delete.exact"]),
        (Lie::DeleteTakesMore, &["delete.exact"]),
        (Lie::ShiftsRanges, &["get.range", "get.pinned"]),
        (Lie::RefusesLongRanges, &["get.range-edges"]),
        (Lie::AllowsFarRanges, &["get.range-edges", "error.classified"]),
        (Lie::IgnoresPin, &["get.pinned"]),
        (Lie::ReadsMissingAsEmpty, &["get.missing"]),
        (Lie::EndsSilently, &["put.sizes"]),
        (Lie::HeadFindsFolders, &["head.missing"]),
        (Lie::CopyLosesByte, &["copy.bytes", "copy.declared"]),
        (Lie::CopiesMissing, &["copy.missing", "error.classified"]),
        (Lie::DecodesNames, &["keys.awkward"]),
        (Lie::ForgetsTime, &["time.sane"]),
        (Lie::NamelessErrors, &["error.classified"]),
        (Lie::EndlessErrors, &["error.classified"]),
        (Lie::ChangesLimits, &["limits.sane"]),
    ];
}

/// A store around a store that lies in one way and is true in all others.
#[derive(Debug)]
pub struct Broken {
    inner: Store,
    limits: Limits,
    lie: Lie,
}

impl Broken {
    /// Puts the lie around a store. Make a new one each time the store is
    /// opened.
    pub fn new(inner: Store, lie: Lie) -> Self {
        let mut limits = inner.limits().clone();
        if lie == Lie::ChangesLimits {
            limits.max_object -= fastrand::u64(0..1 << 40);
        }
        // What is only in the memory of a handle is a store of its own.
        let inner = match lie {
            Lie::AcknowledgesEarly => Arc::new(InMemory::with_limits(limits.clone())),
            _ => inner,
        };
        Self { inner, limits, lie }
    }

    fn is(&self, lie: Lie) -> bool {
        self.lie == lie
    }

    fn name(&self, key: &Key) -> Key {
        if self.is(Lie::DecodesNames) {
            Key::foreign(key.as_str().replace("%41", "A").replace("%20", " "))
        } else {
            key.clone()
        }
    }

    fn spoil(&self, error: Error) -> Error {
        match self.lie {
            Lie::NamelessErrors => {
                Error::new(error.kind(), "it did not work").with_class(error.class())
            }
            Lie::EndlessErrors if error.kind() == Kind::NotFound => {
                error.with_class(Class::Transient)
            }
            _ => error,
        }
    }

    fn age(&self, meta: &mut Meta) {
        if self.is(Lie::ForgetsTime) {
            meta.modified = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        }
    }
}

fn nothing() -> Object {
    let meta = Meta { size: 0, modified: Utc::now(), version: None };
    Object { meta, range: 0..0, body: stream::empty().boxed() }
}

#[async_trait]
impl Storage for Broken {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.put_lying(&self.name(key), body, how).await.map_err(|error| self.spoil(error))
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let key = &self.name(key);
        let mut asked = how.clone();
        if self.is(Lie::IgnoresPin) {
            asked.version = None;
        }
        let mut object = match (self.inner.get(key, asked).await, self.lie) {
            (Err(error), Lie::ReadsMissingAsEmpty)
                if error.kind() == Kind::NotFound && how.range.is_some() =>
            {
                nothing()
            }
            (Err(error), Lie::AllowsFarRanges) if error.kind() == Kind::Invalid => nothing(),
            (object, _) => object.map_err(|error| self.spoil(error))?,
        };
        match (self.lie, how.range) {
            (Lie::ShiftsRanges, Some(range)) if range.start > 0 && range.end < object.meta.size => {
                object.body =
                    self.inner.get(key, Get::range(range.start + 1..range.end + 1)).await?.body;
            }
            (Lie::RefusesLongRanges, Some(range)) if range.end > object.meta.size => {
                return Err(Error::new(Kind::Invalid, "the range ends past the end")
                    .with_op("get")
                    .with_key(key));
            }
            (Lie::EndsSilently, None) if object.meta.size > 4 << 20 => {
                let mut left = object.meta.size - 1;
                object.body = object
                    .body
                    .map_ok(move |chunk| {
                        let keep = left.min(chunk.len() as u64);
                        left -= keep;
                        chunk.slice(..keep as usize)
                    })
                    .boxed();
            }
            _ => {}
        }
        self.age(&mut object.meta);
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let key = &self.name(key);
        let folder = Key::foreign(format!("{key}/"));
        if self.is(Lie::HeadFindsFolders)
            && self.inner.list(&folder, List::default()).next().await.is_some()
        {
            return Ok(nothing().meta);
        }
        let mut meta = self.inner.head(key).await.map_err(|error| self.spoil(error))?;
        self.age(&mut meta);
        Ok(meta)
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        self.list_lying(prefix, how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let keys: Vec<Key> = keys.iter().map(|key| self.name(key)).collect();
        let lied = |keys: &[Key]| -> Vec<Deleted> {
            keys.iter().map(|key| Deleted { key: key.clone(), outcome: Ok(()) }).collect()
        };
        match self.lie {
            Lie::DeleteLies => Ok(lied(&keys)),
            Lie::DeleteForgetsTail => {
                let batch = keys.len().min(self.limits.delete_batch);
                let mut deleted = self.inner.delete(&keys[..batch]).await?;
                deleted.extend(lied(&keys[batch..]));
                Ok(deleted)
            }
            Lie::DeleteRefusesMissing => {
                let mut deleted = Vec::new();
                for key in keys {
                    let outcome = match self.inner.head(&key).await {
                        Ok(_) => self.inner.delete_one(&key).await,
                        Err(error) => Err(error),
                    };
                    deleted.push(Deleted { key, outcome });
                }
                Ok(deleted)
            }
            Lie::DeleteTakesMore => {
                for key in &keys {
                    let beside = self.inner.list_all(&key.parent(), List::recursive()).await?;
                    let more = beside.iter().map(|entry| entry.key().clone());
                    let more: Vec<Key> =
                        more.filter(|other| other.as_str().starts_with(key.as_str())).collect();
                    self.inner.delete(&more).await?;
                }
                self.inner.delete(&keys).await
            }
            _ => self.inner.delete(&keys).await,
        }
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let copied = match (self.inner.copy(&self.name(from), &self.name(to)).await, self.lie) {
            (Err(error), Lie::CopiesMissing) if error.kind() == Kind::NotFound => {
                self.inner.put_bytes(to, "", Put::default()).await
            }
            (Ok(copied), Lie::CopyLosesByte) => {
                let mut all = self.inner.get_bytes(from, u64::MAX).await?;
                all.pop();
                self.inner.put_bytes(to, all, Put::default()).await?;
                Ok(copied)
            }
            (copied, _) => copied,
        };
        copied.map_err(|error| self.spoil(error))
    }
}
