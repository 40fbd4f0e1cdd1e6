//! A store around a store: everything below one folder of it.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{
    Body, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage,
    Store, Stored,
};

/// The folder `prefix` of another store, as a store of its own. Errors name the
/// full key.
#[derive(Debug)]
pub struct Prefix {
    inner: Store,
    folder: Key,
    limits: Limits,
}

impl Prefix {
    /// The folder `prefix` of `inner`. Slashes at both ends of `prefix` do not
    /// count; an empty one is `inner` itself.
    pub fn new(inner: Store, prefix: &str) -> Result<Self> {
        let trimmed = prefix.trim_matches('/');
        let folder =
            if trimmed.is_empty() { Key::root() } else { Key::parse(format!("{trimmed}/"))? };
        let mut limits = inner.limits().clone();
        limits.max_key = limits.max_key.saturating_sub(folder.as_str().len());
        Ok(Self { inner, folder, limits })
    }

    fn full(&self, key: &Key) -> Key {
        Key::foreign(format!("{}{key}", self.folder))
    }

    fn relative(&self, entry: Entry) -> Result<Entry> {
        let cut = |key: &Key| {
            let rest = key.strip_prefix(&self.folder).map(Key::foreign);
            rest.ok_or_else(|| {
                Error::new(Kind::Internal, format!("a listing of {} shows {key}", self.folder))
            })
        };
        Ok(match entry {
            Entry::Object(key, meta) => Entry::Object(cut(&key)?, meta),
            Entry::Prefix(key) => Entry::Prefix(cut(&key)?),
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Prefix {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.inner.put(&self.full(key), body, how).await
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        self.inner.get(&self.full(key), how).await
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        self.inner.head(&self.full(key)).await
    }

    fn list(&self, prefix: &Key, mut how: List) -> BoxStream<'_, Result<Entry>> {
        how.after = how.after.map(|after| self.full(&after));
        self.inner.list(&self.full(prefix), how).map(|entry| self.relative(entry?)).boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let full: Vec<Key> = keys.iter().map(|key| self.full(key)).collect();
        let mut deleted = self.inner.delete(&full).await?;
        for (done, key) in deleted.iter_mut().zip(keys) {
            done.key = key.clone();
        }
        Ok(deleted)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.inner.copy(&self.full(from), &self.full(to)).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::{InMemory, StorageExt};
    use futures_executor::block_on;
    use std::sync::Arc;

    #[test]
    fn a_folder_is_a_store_of_its_own() {
        let inner = Arc::new(InMemory::new());
        inner.insert("a/x", "outside");
        inner.insert("a/b0", "outside");
        let store = Prefix::new(inner.clone(), "/a/b/").unwrap();
        let key = |text: &str| Key::parse(text).unwrap();
        block_on(async {
            for name in ["x", "d/y"] {
                store.put_bytes(&key(name), name.to_owned(), Put::default()).await.unwrap();
            }
            store.copy(&key("x"), &key("z")).await.unwrap();
            let names = |how: List| async {
                let entries = store.list_all(&Key::root(), how).await.unwrap();
                entries.iter().map(|entry| entry.key().to_string()).collect::<Vec<_>>()
            };
            assert_eq!(names(List::default()).await, ["d/", "x", "z"]);
            assert_eq!(names(List { recursive: true, after: Some(key("d/y")) }).await, ["x", "z"]);
            assert_eq!(store.get_bytes(&key("d/y"), 9).await.unwrap(), b"d/y");
            assert_eq!(store.head(&key("z")).await.unwrap().size, 1);
            let deleted = store.delete(&[key("z")]).await.unwrap();
            assert_eq!(deleted[0].key, key("z"));
        });
        assert_eq!(inner.names(), ["a/b/d/y", "a/b/x", "a/b0", "a/x"]);
        assert!(Prefix::new(inner, "a/../b").is_err());
    }
}
