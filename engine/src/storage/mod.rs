//! The contract between the engine and a place that keeps objects.
//!
//! [`Storage`] is what a backend implements, and nothing else. What callers
//! find convenient is in [`StorageExt`]. What every store should do alike -
//! retry, resume, notice a stall, throttle - is a store around a store and
//! lives beside the contract, so that no backend repeats it.
//!
//! Each behaviour line of the trait ends with the conformance case that proves
//! it; `walport conformance list` prints them.

pub mod alive;
pub mod body;
mod ext;
pub mod failover;
pub mod fanout;
pub mod faulty;
pub mod in_memory;
pub mod key;
mod limits;
mod merge;
pub mod metrics;
pub mod policies;
pub mod prefix;
pub mod registry;
pub mod resume;
pub mod retry;
mod settings;
pub mod stall;
pub mod throttle;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

pub use crate::error::{Class, Error, Kind, Result};
pub use body::{Body, ByteStream};
pub use ext::StorageExt;
pub use in_memory::InMemory;
pub use key::Key;
pub use limits::Limits;
pub use policies::Policies;
pub use registry::{Backend, Open, Registry};
pub use settings::SETTINGS;
pub use stall::Activity;

/// A store, shared.
pub type Store = Arc<dyn Storage>;

/// A place that keeps objects. Implementors write these methods and nothing else.
///
/// All keys are relative to the store's own root. Methods may be called
/// concurrently. Every error carries its [`Kind`] and its [`Class`];
/// a store does not retry on its own, except for a part of an upload that it
/// still holds in memory. [error.classified]
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync {
    /// Abilities and sizes, as data.
    fn limits(&self) -> &Limits;

    /// Stores `body` under `key`.
    ///
    /// - Complete and durable when it returns Ok; the size returned is the number
    ///   of bytes stored. [put.roundtrip] [put.durable]
    /// - Absent, or what was there before, when it returns an error or never
    ///   returns; a reader never sees a part of it. [put.atomic]
    /// - The size of the body may be unknown. [put.sizes]
    /// - A body that ends with an error is aborted and leaves nothing. [put.abort]
    /// - An existing object is replaced, whole. [put.replace]
    /// - With [`Put::if_absent`]: exactly one of several concurrent creators gets
    ///   Ok [create.race]; the others get [`Kind::AlreadyExists`] and the stored
    ///   bytes stay as they are. [create.loser]
    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored>;

    /// Opens the object, or a range of it, as a stream.
    ///
    /// - A missing object is [`Kind::NotFound`]. [get.missing]
    /// - A range gives exactly its bytes [get.range]; one that ends past the end
    ///   is cut there, one that begins past it is [`Kind::Invalid`]. [get.range-edges]
    /// - With [`Get::version`], an object that changed since is
    ///   [`Kind::Changed`], never other bytes. [get.pinned]
    /// - A stream that is cut short yields an error, never a silent end. [get.truncated]
    async fn get(&self, key: &Key, how: Get) -> Result<Object>;

    /// Size, time and version of the object, without its bytes.
    ///
    /// - They equal what a listing says. [head.matches-list]
    /// - A missing object is [`Kind::NotFound`], a prefix too. [head.missing]
    async fn head(&self, key: &Key) -> Result<Meta>;

    /// The objects under `prefix`, which is a prefix of names: empty, or with a
    /// final slash.
    ///
    /// - Complete beyond any page size, without duplicates. [list.pages]
    /// - In byte order of the keys, where [`Limits::ordered_list`]. [list.order]
    /// - With sizes and times. [list.meta]
    /// - A prefix that holds nothing lists as empty. [list.empty]
    /// - Without [`List::recursive`], what lies deeper shows once, as
    ///   [`Entry::Prefix`]. [list.delimiter]
    /// - With [`List::after`], only keys greater than it. [list.after]
    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>>;

    /// Removes objects. The answer has one item for each key, in the same order.
    ///
    /// - A missing object counts as removed. [delete.missing]
    /// - Any number of keys may be given; one failure does not hide the rest, and
    ///   each failure is named. [delete.batch]
    /// - After Ok, neither `head` nor `list` shows the object. [delete.gone]
    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>>;

    /// Copies an object inside the store.
    ///
    /// - Byte for byte, with the size confirmed. [copy.bytes]
    /// - A missing source is [`Kind::NotFound`]. [copy.missing]
    /// - Where the store cannot: [`Kind::Unsupported`], and
    ///   [`Limits::server_side_copy`] is false. [copy.declared]
    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored>;
}

/// How to store an object. The default overwrites and asks for nothing special.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Create only; fail with [`Kind::AlreadyExists`] if something is there.
    pub if_absent: bool,
    /// An estimate of the final size in bytes, from which a store may choose
    /// its part size when [`Body::size`] is unknown.
    pub expected_size: Option<u64>,
    /// How many bytes of the body exist at one time: the producer waits for
    /// memory beyond that. A store that collects parts must be able to send
    /// with less than this held, so it derives part size and parts in flight
    /// from it. `None`: the body does not depend on what the store holds.
    pub window: Option<u64>,
    /// The storage class, in the store's own words.
    pub storage_class: Option<String>,
    /// Tags of the object.
    pub tags: Vec<(String, String)>,
    /// For how long from now the object may not be deleted.
    pub retention: Option<Duration>,
    /// Where the store may report that bytes move, for who watches for a stall.
    pub activity: Activity,
}

impl Put {
    /// Create only if absent.
    pub fn create() -> Self {
        Self { if_absent: true, ..Self::default() }
    }
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Bytes stored.
    pub size: u64,
    /// The version (ETag, generation), where the store has one.
    pub version: Option<String>,
}

/// Which bytes to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Get {
    /// The bytes wanted: from, and up to but not including. `None` is all.
    pub range: Option<Range<u64>>,
    /// Only if the object still has this version.
    pub version: Option<String>,
}

impl Get {
    /// The bytes of `range`.
    pub fn range(range: Range<u64>) -> Self {
        Self { range: Some(range), version: None }
    }

    /// The bytes this asks for of an object of `size` bytes: cut at its end, and
    /// [`Kind::Invalid`] where they begin past it.
    pub fn within(&self, size: u64) -> Result<Range<u64>> {
        match &self.range {
            None => Ok(0..size),
            Some(range) if range.start <= size && range.start <= range.end => {
                Ok(range.start..range.end.min(size))
            }
            Some(range) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "the bytes {} to {} do not lie in an object of {size} bytes",
                    range.start, range.end
                ),
            )
            .with_op("get")),
        }
    }

    /// Fails with [`Kind::Changed`] if a version is asked for and `found` is another.
    pub fn check_version(&self, found: Option<&str>) -> Result<()> {
        match &self.version {
            Some(wanted) if Some(wanted.as_str()) != found => Err(Error::new(
                Kind::Changed,
                format!(
                    "the object changed: version {} instead of {wanted}",
                    found.unwrap_or("(none)")
                ),
            )
            .with_op("get")
            .with_hint("Run the command again to read the object as it is now.")),
            _ => Ok(()),
        }
    }
}

/// An open object.
pub struct Object {
    /// Size, time and version of the whole object.
    pub meta: Meta,
    /// The bytes that `body` carries.
    pub range: Range<u64>,
    /// The bytes. Yields an error if they end before `range` does.
    pub body: ByteStream,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("meta", &self.meta)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// The version (ETag, generation), where the store has one.
    pub version: Option<String>,
}

/// How to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Show every object below the prefix; otherwise one level of it.
    pub recursive: bool,
    /// Only keys greater than this one, in byte order.
    pub after: Option<Key>,
}

impl List {
    /// Everything below the prefix.
    pub fn recursive() -> Self {
        Self { recursive: true, after: None }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object.
    Object(Key, Meta),
    /// What lies deeper, in a listing of one level. Ends in `/`.
    Prefix(Key),
}

impl Entry {
    /// The key of the object, or the prefix.
    pub fn key(&self) -> &Key {
        match self {
            Entry::Object(key, _) | Entry::Prefix(key) => key,
        }
    }
}

/// What became of one key of a delete.
#[derive(Debug)]
pub struct Deleted {
    /// The key.
    pub key: Key,
    /// Removed (or never there), or why not.
    pub outcome: Result<()>,
}
