//! A store around the store under test: notes progress for the watchdog and
//! the keys written for the clean-up. It changes nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use walport_engine::storage::{
    Body, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Put, Result, Storage, Store, Stored,
};

use crate::data::Progress;

/// The keys that may exist because of us. A listing that lies cannot hide them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<Mutex<BTreeSet<Key>>>);

impl Written {
    fn add(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    }

    /// Takes the keys out.
    pub(crate) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Store,
    pub(crate) progress: Progress,
    pub(crate) written: Written,
}

#[async_trait]
impl Storage for Watched {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.written.add(key);
        let done = self.inner.put(key, body, how).await;
        self.progress.bump();
        done
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let object = self.inner.get(key, how).await;
        self.progress.bump();
        let progress = self.progress.clone();
        object.map(|Object { meta, range, body }| Object {
            meta,
            range,
            body: body.inspect(move |_| progress.bump()).boxed(),
        })
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let meta = self.inner.head(key).await;
        self.progress.bump();
        meta
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        self.inner.list(prefix, how).inspect(|_| self.progress.bump()).boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let deleted = self.inner.delete(keys).await;
        self.progress.bump();
        deleted
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.written.add(to);
        let copied = self.inner.copy(from, to).await;
        self.progress.bump();
        copied
    }
}
