//! A store around a store: bodies move at a limited rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::{
    Body, ByteStream, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Put, Result, Storage,
    Store, Stored,
};

/// What may go through at once beyond the rate, in bytes, as in WAL-G.
pub const BURST: u64 = 64 << 10;

/// Bytes that fall in at a fixed rate and are taken out as data moves. Cloning
/// shares it: one for the whole process.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rate: f64,
    depth: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    balance: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// A full bucket for `rate` bytes per second; 0 counts as 1. It holds one
    /// second's bytes and [`BURST`] more.
    pub fn new(rate: u64) -> Self {
        let rate = rate.max(1);
        let depth = rate.saturating_add(BURST) as f64;
        Self(Arc::new(Inner {
            rate: rate as f64,
            depth,
            state: Mutex::new(State { balance: depth, at: None }),
        }))
    }

    /// Takes `bytes` and waits until the rate allows for them. Those who came
    /// first go first.
    pub async fn take(&self, bytes: u64) {
        let wait = self.debt(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// The balance may go below zero: chunks are larger than slow buckets.
    fn debt(&self, bytes: u64) -> Duration {
        let now = Instant::now();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = state.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        state.at = Some(now);
        state.balance =
            (state.balance + gone.as_secs_f64() * self.0.rate).min(self.0.depth) - bytes as f64;
        Duration::try_from_secs_f64(-state.balance / self.0.rate).unwrap_or(Duration::ZERO)
    }

    /// `stream`, at the rate of this bucket.
    pub fn slow(&self, stream: ByteStream) -> ByteStream {
        let bucket = self.clone();
        stream
            .then(move |chunk| {
                let bucket = bucket.clone();
                async move {
                    if let Ok(chunk) = &chunk {
                        bucket.take(chunk.len() as u64).await;
                    }
                    chunk
                }
            })
            .boxed()
    }
}

/// Moves bodies, in both directions, at the rate of a [`Bucket`]
/// (`WALG_NETWORK_RATE_LIMIT`).
#[derive(Debug)]
pub struct Throttle {
    inner: Store,
    bucket: Bucket,
}

impl Throttle {
    /// Slows the bodies of `inner` down.
    pub fn new(inner: Store, bucket: Bucket) -> Self {
        Self { inner, bucket }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Throttle {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let bucket = self.bucket.clone();
        self.inner.put(key, body.map(move |stream| bucket.slow(stream)), how).await
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut object = self.inner.get(key, how).await?;
        object.body = self.bucket.slow(object.body);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::{InMemory, StorageExt};

    #[tokio::test(start_paused = true)]
    async fn bytes_move_at_the_rate_shared_by_all() {
        let rate = 1 << 20;
        let bucket = Bucket::new(rate);
        let memory = Arc::new(InMemory::new());
        let stores: Vec<_> =
            (0..4).map(|_| Throttle::new(memory.clone(), bucket.clone())).collect();
        let start = Instant::now();
        let puts = stores.iter().enumerate().map(|(number, store)| async move {
            let key = Key::parse(number.to_string()).unwrap();
            store.put_bytes(&key, vec![0; 4 << 20], Put::default()).await.unwrap();
            assert_eq!(store.get_bytes(&key, 4 << 20).await.unwrap().len(), 4 << 20);
        });
        futures_util::future::join_all(puts).await;
        // 32 MiB at 1 MiB/s, of which the first second and the burst are free.
        let seconds = start.elapsed().as_secs_f64();
        assert!((30.0..33.0).contains(&seconds), "{seconds} s");
        assert_eq!(memory.names().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_bucket_passes_chunks_larger_than_itself() {
        let bucket = Bucket::new(1000);
        let start = Instant::now();
        bucket.take(1000 + BURST).await;
        assert!(start.elapsed() < Duration::from_millis(10), "the burst is free");
        bucket.take(256_000).await;
        let seconds = start.elapsed().as_secs_f64();
        assert!((255.0..257.0).contains(&seconds), "{seconds} s");
        // An idle bucket fills up to its depth and not beyond.
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert!(bucket.debt(1000 + BURST).is_zero());
        assert!(!bucket.debt(1).is_zero());
    }
}
