//! A store around a store: tells an observer of every operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::Instant;

use super::faulty::Op;
use super::{
    Body, Deleted, Entry, Get, Key, Kind, Limits, List, Meta, Object, Put, Result, Storage, Store,
    Stored,
};

/// One finished operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was done.
    pub op: Op,
    /// Bytes moved by `put`, `get` and `copy`; entries of a `list`, keys of a `delete`.
    pub amount: u64,
    /// From the call to the end of it, of a body or of a listing.
    pub duration: Duration,
    /// The kind of the failure, if it was one.
    pub failure: Option<Kind>,
}

/// Who wants to know. Called once per operation, on the runtime's thread: it
/// must not wait.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// An operation has ended.
    fn observe(&self, event: &Event);
}

/// Sums for each operation, from the start of the process.
#[derive(Debug, Default)]
pub struct Counters([Counter; 6]);

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    failures: AtomicU64,
    amount: AtomicU64,
    nanoseconds: AtomicU64,
}

/// The sums of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Operations that ended, the failed ones included.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Bytes, entries or keys, as in [`Event::amount`].
    pub amount: u64,
    /// The time they took, one by one.
    pub duration: Duration,
}

impl Counters {
    /// The sums of `op`.
    pub fn sums(&self, op: Op) -> Sums {
        let counter = &self.0[op as usize];
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Sums {
            calls: read(&counter.calls),
            failures: read(&counter.failures),
            amount: read(&counter.amount),
            duration: Duration::from_nanos(read(&counter.nanoseconds)),
        }
    }
}

impl Observer for Counters {
    fn observe(&self, event: &Event) {
        let counter = &self.0[event.op as usize];
        counter.calls.fetch_add(1, Ordering::Relaxed);
        counter.failures.fetch_add(u64::from(event.failure.is_some()), Ordering::Relaxed);
        counter.amount.fetch_add(event.amount, Ordering::Relaxed);
        let nanoseconds = u64::try_from(event.duration.as_nanos()).unwrap_or(u64::MAX);
        counter.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// Tells an [`Observer`] of every operation of another store.
#[derive(Debug)]
pub struct Metrics {
    inner: Store,
    observer: Arc<dyn Observer>,
}

impl Metrics {
    /// Watches `inner`.
    pub fn new(inner: Store, observer: Arc<dyn Observer>) -> Self {
        Self { inner, observer }
    }

    fn start(&self, op: Op) -> Running {
        Running {
            observer: Arc::clone(&self.observer),
            op,
            amount: 0,
            start: Instant::now(),
            failure: None,
        }
    }
}

/// An operation under way; tells when it is dropped.
struct Running {
    observer: Arc<dyn Observer>,
    op: Op,
    amount: u64,
    start: Instant,
    failure: Option<Kind>,
}

impl Running {
    fn end<T>(mut self, done: Result<T>, amount: impl FnOnce(&T) -> u64) -> Result<T> {
        match &done {
            Ok(value) => self.amount = amount(value),
            Err(error) => self.failure = Some(error.kind()),
        }
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.observer.observe(&Event {
            op: self.op,
            amount: self.amount,
            duration: self.start.elapsed(),
            failure: self.failure,
        });
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Metrics {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let running = self.start(Op::Put);
        running.end(self.inner.put(key, body, how).await, |stored| stored.size)
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut running = self.start(Op::Get);
        let mut object = match self.inner.get(key, how).await {
            Ok(object) => object,
            Err(error) => return running.end(Err(error), |_| 0),
        };
        let body = object.body.map(move |chunk| {
            let running = &mut running;
            match &chunk {
                Ok(chunk) => running.amount += chunk.len() as u64,
                Err(error) => running.failure = Some(error.kind()),
            }
            chunk
        });
        object.body = body.boxed();
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        self.start(Op::Head).end(self.inner.head(key).await, |_| 0)
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let state = (self.inner.list(prefix, how), None);
        stream::unfold(state, |(mut entries, running)| async {
            let mut running = running.unwrap_or_else(|| self.start(Op::List));
            let entry = entries.next().await?;
            match &entry {
                Ok(_) => running.amount += 1,
                Err(error) => running.failure = Some(error.kind()),
            }
            Some((entry, (entries, Some(running))))
        })
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut running = self.start(Op::Delete);
        let done = self.inner.delete(keys).await;
        if let Ok(deleted) = &done {
            running.failure =
                deleted.iter().find_map(|one| one.outcome.as_ref().err()).map(super::Error::kind);
        }
        running.end(done, |deleted| deleted.iter().filter(|one| one.outcome.is_ok()).count() as u64)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.start(Op::Copy).end(self.inner.copy(from, to).await, |stored| stored.size)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::faulty::{Fault, Faulty, Rule};
    use crate::storage::{InMemory, StorageExt};

    #[tokio::test(start_paused = true)]
    async fn every_operation_is_counted_once() {
        let faulty = Arc::new(Faulty::new(Arc::new(InMemory::new())));
        let counters = Arc::new(Counters::default());
        let store = Metrics::new(faulty.clone(), counters.clone());
        let key = |text: &str| Key::parse(text).unwrap();
        faulty.add(
            Rule::on(Op::Get)
                .call(1)
                .fault(Fault::Slow { piece: 10, pause: Duration::from_secs(1) }),
        );
        faulty.add(
            Rule::on(Op::Get).call(2).fault(Fault::Break { after: 5, kind: Kind::Unavailable }),
        );
        store.put_bytes(&key("x"), vec![0; 100], Put::default()).await.unwrap();
        assert_eq!(store.get_bytes(&key("x"), 100).await.unwrap().len(), 100);
        store.get_bytes(&key("x"), 100).await.unwrap_err();
        store.head(&key("y")).await.unwrap_err();
        store.copy(&key("x"), &key("y")).await.unwrap();
        assert_eq!(store.list_all(&Key::root(), List::recursive()).await.unwrap().len(), 2);
        store.delete(&[key("x"), key("y"), key("z")]).await.unwrap();
        let sums = |op| {
            let sums = counters.sums(op);
            (sums.calls, sums.failures, sums.amount)
        };
        assert_eq!(sums(Op::Put), (1, 0, 100));
        assert_eq!(sums(Op::Get), (2, 1, 105));
        assert_eq!(sums(Op::Head), (1, 1, 0));
        assert_eq!(sums(Op::Copy), (1, 0, 100));
        assert_eq!(sums(Op::List), (1, 0, 2));
        assert_eq!(sums(Op::Delete), (1, 0, 3));
        assert_eq!(counters.sums(Op::Get).duration, Duration::from_secs(10));
    }
}
