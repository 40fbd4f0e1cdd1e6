//! A store in memory: the whole contract, nothing durable. For tests, and the
//! yardstick that the conformance suite is checked against.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{
    Body, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage,
    Stored,
};
use crate::memory::CHUNK;

/// Objects in memory, gone with the process.
#[derive(Debug)]
pub struct InMemory {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Held>,
    writes: u64,
}

#[derive(Debug, Clone)]
struct Held {
    data: Bytes,
    meta: Meta,
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl InMemory {
    /// An empty store that can do everything.
    pub fn new() -> Self {
        Self::with_limits(Limits::unlimited())
    }

    /// An empty store that declares `limits`. It refuses `copy` where they say
    /// so; a lower limit does not make it worse in other ways.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// The names of all objects, in byte order.
    pub fn names(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// The bytes of an object.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.lock().objects.get(name).map(|held| held.data.clone())
    }

    /// Stores bytes without any of the contract, as another program would.
    pub fn insert(&self, name: impl Into<String>, data: impl Into<Bytes>) {
        let mut inner = self.lock();
        let held = inner.hold(data.into());
        inner.objects.insert(name.into(), held);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, key: &Key, op: &'static str) -> Result<Held> {
        let found =
            if key.is_prefix() { None } else { self.lock().objects.get(key.as_str()).cloned() };
        found.ok_or_else(|| Error::new(Kind::NotFound, "no such object").with_op(op).with_key(key))
    }

    fn store(&self, key: &Key, data: Bytes, if_absent: bool, op: &'static str) -> Result<Stored> {
        let mut inner = self.lock();
        if if_absent && inner.objects.contains_key(key.as_str()) {
            return Err(Error::new(Kind::AlreadyExists, "an object of that name exists")
                .with_op(op)
                .with_key(key));
        }
        let held = inner.hold(data);
        let stored = Stored { size: held.meta.size, version: held.meta.version.clone() };
        inner.objects.insert(key.as_str().to_owned(), held);
        Ok(stored)
    }

    fn entries(&self, prefix: &Key, how: &List) -> Vec<Entry> {
        let prefix = prefix.as_str();
        let after = how.after.as_ref().map_or("", Key::as_str);
        let inner = self.lock();
        let from = if after > prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let mut entries: Vec<Entry> = Vec::new();
        for (name, held) in inner.objects.range::<str, _>((from, Bound::Unbounded)) {
            let Some(rest) = name.strip_prefix(prefix) else { break };
            let entry = match rest.find('/') {
                Some(slash) if !how.recursive => {
                    Entry::Prefix(Key::foreign(&name[..=prefix.len() + slash]))
                }
                _ => Entry::Object(Key::foreign(name.as_str()), held.meta.clone()),
            };
            if entry.key().as_str() > after && entries.last().map(Entry::key) != Some(entry.key()) {
                entries.push(entry);
            }
        }
        entries
    }
}

impl Inner {
    fn hold(&mut self, data: Bytes) -> Held {
        self.writes += 1;
        let meta = Meta {
            size: data.len() as u64,
            modified: Utc::now(),
            version: Some(self.writes.to_string()),
        };
        Held { data, meta }
    }
}

#[async_trait]
impl Storage for InMemory {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        if key.is_prefix() {
            return Err(Error::new(Kind::Invalid, "a prefix cannot be written")
                .with_op("put")
                .with_key(key));
        }
        let mut stream = body.into_stream();
        let mut data = Vec::new();
        while let Some(chunk) = stream.next().await {
            data.extend_from_slice(&chunk?);
        }
        self.store(key, data.into(), how.if_absent, "put")
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let held = self.held(key, "get")?;
        how.check_version(held.meta.version.as_deref()).map_err(|error| error.with_key(key))?;
        let range = how.within(held.meta.size).map_err(|error| error.with_key(key))?;
        let wanted = held.data.slice(range.start as usize..range.end as usize);
        let body = stream::unfold(wanted, |mut rest| async move {
            (!rest.is_empty()).then(|| (Ok(rest.split_to(rest.len().min(CHUNK))), rest))
        });
        Ok(Object { meta: held.meta, range, body: body.boxed() })
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        Ok(self.held(key, "head")?.meta)
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        stream::iter(self.entries(prefix, &how)).map(Ok).boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut inner = self.lock();
        Ok(keys
            .iter()
            .map(|key| {
                inner.objects.remove(key.as_str());
                Deleted { key: key.clone(), outcome: Ok(()) }
            })
            .collect())
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        if !self.limits.server_side_copy {
            return Err(Error::new(Kind::Unsupported, "this store does not copy")
                .with_op("copy")
                .with_key(from));
        }
        let held = self.held(from, "copy")?;
        self.store(to, held.data, false, "copy")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::StorageExt;
    use futures_executor::block_on;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn names(store: &InMemory, prefix: &str, how: List) -> Vec<String> {
        let entries = block_on(store.list_all(&key(prefix), how)).unwrap();
        entries.iter().map(|entry| entry.key().to_string()).collect()
    }

    #[test]
    fn lists_in_byte_order_by_level_and_after() {
        let store = InMemory::new();
        for name in ["a/x", "a-b", "a0", "a/y/z", "b"] {
            store.insert(name, "1");
        }
        assert_eq!(names(&store, "", List::recursive()), ["a-b", "a/x", "a/y/z", "a0", "b"]);
        assert_eq!(names(&store, "", List::default()), ["a-b", "a/", "a0", "b"]);
        assert_eq!(names(&store, "a/", List::default()), ["a/x", "a/y/"]);
        let after = |text: &str, recursive| List { recursive, after: Some(key(text)) };
        assert_eq!(names(&store, "", after("a/x", true)), ["a/y/z", "a0", "b"]);
        assert_eq!(names(&store, "", after("a/x", false)), ["a0", "b"]);
        assert_eq!(names(&store, "a/", after("b", true)), [""; 0]);
    }

    #[test]
    fn creates_once_reads_ranges_and_pins_versions() {
        let store = InMemory::new();
        let name = key("wal_005/x");
        let first = block_on(store.put_bytes(&name, "hello", Put::create())).unwrap();
        let error = block_on(store.put_bytes(&name, "other", Put::create())).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        let part = block_on(store.get(&name, Get::range(1..9))).unwrap();
        assert_eq!(part.range, 1..5);
        let error = block_on(store.get(&name, Get::range(6..9))).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        block_on(store.put_bytes(&name, "hello", Put::default())).unwrap();
        let pinned = Get { range: None, version: first.version };
        assert_eq!(block_on(store.get(&name, pinned)).unwrap_err().kind(), Kind::Changed);
        block_on(store.delete_one(&name)).unwrap();
        assert_eq!(block_on(store.head(&name)).unwrap_err().kind(), Kind::NotFound);
    }
}
