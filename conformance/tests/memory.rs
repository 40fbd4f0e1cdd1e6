//! The memory cases pass on a store that streams and fail on one that keeps
//! whole objects. A binary of its own, with one test: the whole process is
//! measured.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, TryStreamExt};
use walport_backends::file::FileStore;
use walport_conformance::{Options, Report, Subject, run};
use walport_engine::memory::Budget;
use walport_engine::storage::{
    Body, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Put, Result, Storage, StorageExt,
    Store, Stored,
};

/// Keeps each object whole before it stores it, or before it hands it out.
#[derive(Debug)]
struct Hoarder {
    inner: Store,
    on_put: bool,
}

#[async_trait]
impl Storage for Hoarder {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        if !self.on_put {
            return self.inner.put(key, body, how).await;
        }
        let chunks: Vec<_> = body.into_stream().try_collect().await?;
        self.inner.put_bytes(key, chunks.concat(), how).await
    }
    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut object = self.inner.get(key, how).await?;
        if !self.on_put {
            let chunks: Vec<_> = object.body.try_collect().await?;
            object.body = Body::bytes(chunks.concat()).into_stream();
        }
        Ok(object)
    }
    async fn head(&self, key: &Key) -> Result<Meta> {
        self.inner.head(key).await
    }
    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        self.inner.list(prefix, how)
    }
    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        self.inner.delete(keys).await
    }
    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.inner.copy(from, to).await
    }
}

/// The memory cases over the file store in a budget of 16 MiB, hoarding or not.
async fn report(hoards: Option<bool>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let subject = Subject::new(format!("{hoards:?}"), move || {
        let root = root.clone();
        async move {
            let inner: Store = Arc::new(FileStore::open(root, Budget::new(16 << 20)).await?);
            Ok(match hoards {
                None => inner,
                Some(on_put) => Arc::new(Hoarder { inner, on_put }),
            })
        }
        .boxed()
    });
    let options = Options {
        filter: vec!["memory.".into()],
        memory: Some(24 << 20),
        expected_skips: Some(Vec::new()),
        ..Options::default()
    };
    run(subject, options).await
}

#[tokio::test]
async fn hoarders_are_found() {
    let honest = report(None).await;
    assert!(honest.is_success() && honest.passed() == 2, "{honest}");
    for on_put in [true, false] {
        let hoarder = report(Some(on_put)).await;
        assert_eq!(hoarder.failures(), ["memory.bounded", "memory.concurrent"], "{hoarder}");
    }
}
