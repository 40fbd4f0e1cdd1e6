//! A store around a store: notices that nothing moves, and only that.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout};

use super::{
    Body, ByteStream, Class, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object,
    Put, Result, Storage, Store, Stored,
};

/// The slowest upload that is taken for alive, in bytes per second, where the
/// store does not report what it sends.
const SLOWEST: u64 = 32 << 10;

/// Reports from inside a `put` that bytes move.
///
/// A store that gathers parts takes bytes out of the body long before they are
/// sent. If it calls [`touch`](Self::touch) whenever some were, a dead peer is
/// told from a slow one at once; without that, the part gets time to be sent.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<AtomicU64>);

impl Activity {
    /// Something moved.
    pub fn touch(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something moved so far.
    pub fn touches(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who watches does not make a difference to what is stored.
impl PartialEq for Activity {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Activity {}

/// Ends with [`Kind::Stalled`] what has not moved for a while. There is no limit
/// on the whole: a body that is slow but moves is never cut. Waiting for the
/// producer of a body is no stall, and `copy` has no limit, since nothing tells
/// how far it is.
#[derive(Debug)]
pub struct Stall {
    inner: Store,
    limit: Duration,
}

impl Stall {
    /// Watches `inner`; `limit` is the longest time without progress.
    pub fn new(inner: Store, limit: Duration) -> Self {
        Self { inner, limit }
    }

    async fn within<T>(
        &self,
        op: &'static str,
        key: &Key,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(self.limit, work).await.unwrap_or_else(|_| Err(stalled(self.limit, op, key)))
    }

    /// How long the store may be busy with bytes that it has already taken.
    fn patience(&self, how: &Put, watch: &Watch, reported: bool) -> Duration {
        if reported {
            return self.limit;
        }
        let taken = watch.taken.load(Ordering::Relaxed);
        let parts = how.window.unwrap_or(2 * self.limits().min_part).min(taken);
        let held = parts.max(watch.chunk.load(Ordering::Relaxed));
        self.limit + Duration::from_secs(held / SLOWEST)
    }
}

fn stalled(limit: Duration, op: &'static str, key: &Key) -> Error {
    Error::new(Kind::Stalled, format!("nothing moved for {} s", limit.as_secs_f64()))
        .with_op(op)
        .with_key(key)
        .with_hint("Check the network and the storage; WALPORT_STALL_TIMEOUT sets how long to wait for a sign of life.")
}

/// A body that notes what the store takes out of it.
struct Watched {
    body: ByteStream,
    watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    activity: Activity,
    taken: AtomicU64,
    /// The bytes of the last chunk.
    chunk: AtomicU64,
    polls: AtomicU64,
    /// The store waits for bytes that the producer has not made yet.
    waits: AtomicBool,
    ended: AtomicBool,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.poll_next_unpin(context);
        let watch = &self.watch;
        watch.polls.fetch_add(1, Ordering::Relaxed);
        watch.waits.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                watch.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                watch.chunk.store(chunk.len() as u64, Ordering::Relaxed);
            }
            Poll::Ready(_) => watch.ended.store(true, Ordering::Relaxed),
            Poll::Pending => {}
        }
        polled
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Stall {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, mut how: Put) -> Result<Stored> {
        let watch = Arc::new(Watch { activity: how.activity.clone(), ..Watch::default() });
        how.activity = watch.activity.clone();
        let before = watch.activity.touches();
        let watched = Arc::clone(&watch);
        let body = body.map(move |body| Watched { body, watch: Arc::clone(&watched) }.boxed());
        let mut put = self.inner.put(key, body, how.clone());
        let mut seen = (before, 0);
        let mut moved = Instant::now();
        loop {
            let patience = self.patience(&how, &watch, watch.activity.touches() != before);
            let step = patience.saturating_sub(moved.elapsed()).max(Duration::from_millis(1));
            if let Ok(done) = timeout(step, &mut put).await {
                return done;
            }
            let now = (watch.activity.touches(), watch.polls.load(Ordering::Relaxed));
            if now != seen || watch.waits.load(Ordering::Relaxed) {
                seen = now;
                moved = Instant::now();
            } else if moved.elapsed() >= patience {
                let error = stalled(patience, "put", key);
                // With every byte taken, the object may have been stored.
                let all = watch.ended.load(Ordering::Relaxed);
                return Err(error.with_class(if all {
                    Class::Ambiguous
                } else {
                    Class::Transient
                }));
            }
        }
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut object = self.within("get", key, self.inner.get(key, how)).await?;
        let (limit, key) = (self.limit, key.clone());
        object.body = stream::unfold(Some(object.body), move |body| {
            let key = key.clone();
            async move {
                let mut body = body?;
                match timeout(limit, body.next()).await {
                    Ok(chunk) => chunk.map(|chunk| (chunk, Some(body))),
                    Err(_) => Some((Err(stalled(limit, "get", &key)), None)),
                }
            }
        })
        .boxed();
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        self.within("head", key, self.inner.head(key)).await
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let (limit, key) = (self.limit, prefix.clone());
        stream::unfold(Some(self.inner.list(prefix, how)), move |entries| {
            let key = key.clone();
            async move {
                let mut entries = entries?;
                match timeout(limit, entries.next()).await {
                    Ok(entry) => entry.map(|entry| (entry, Some(entries))),
                    Err(_) => Some((Err(stalled(limit, "list", &key)), None)),
                }
            }
        })
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut deleted = Vec::with_capacity(keys.len());
        for batch in keys.chunks(self.limits().delete_batch.max(1)) {
            deleted.extend(self.within("delete", &batch[0], self.inner.delete(batch)).await?);
        }
        Ok(deleted)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.inner.copy(from, to).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::faulty::{Fault, Faulty, Op, Rule};
    use crate::storage::{InMemory, StorageExt};

    const LIMIT: Duration = Duration::from_secs(60);

    fn stores() -> (Arc<InMemory>, Arc<Faulty>, Stall) {
        let memory = Arc::new(InMemory::new());
        memory.insert("x", vec![7; 1 << 20]);
        let faulty = Arc::new(Faulty::new(memory.clone()));
        (memory, faulty.clone(), Stall::new(faulty, LIMIT))
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn noticed(error: &Error, since: Instant) {
        assert_eq!(error.kind(), Kind::Stalled, "{error}");
        assert!(error.hint().is_some());
        assert!(since.elapsed() >= LIMIT && since.elapsed() <= 2 * LIMIT, "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_everywhere() {
        let (_, faulty, store) = stores();
        for op in [Op::Put, Op::Get, Op::Head, Op::List, Op::Delete] {
            faulty.add(Rule::on(op).call(1).fault(Fault::Hang));
        }
        let name = key("x");
        let start = Instant::now();
        noticed(&store.put_bytes(&name, "1", Put::default()).await.unwrap_err(), start);
        let start = Instant::now();
        noticed(&store.get(&name, Get::default()).await.unwrap_err(), start);
        let start = Instant::now();
        noticed(&store.head(&name).await.unwrap_err(), start);
        let start = Instant::now();
        noticed(&store.delete_one(&name).await.unwrap_err(), start);
        faulty.heal();
        faulty.add(Rule::on(Op::Get).fault(Fault::Stall(1000)));
        let mut object = store.get(&name, Get::default()).await.unwrap();
        assert_eq!(object.body.next().await.unwrap().unwrap().len(), 1000);
        let start = Instant::now();
        noticed(&object.body.next().await.unwrap().unwrap_err(), start);
        assert!(object.body.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_but_moves_is_never_cut() {
        let (memory, faulty, store) = stores();
        let slow = Fault::Slow { piece: 64 << 10, pause: Duration::from_secs(50) };
        faulty.add(Rule::on(Op::Get).fault(slow.clone()));
        faulty.add(Rule::on(Op::Put).fault(slow));
        let start = Instant::now();
        let data = store.get_bytes(&key("x"), 1 << 20).await.unwrap();
        assert!(start.elapsed() > 10 * LIMIT);
        let data = Bytes::from(data);
        let chunks: Vec<_> = data.chunks(64 << 10).map(|part| Ok(data.slice_ref(part))).collect();
        let start = Instant::now();
        store
            .put(&key("y"), Body::stream(None, stream::iter(chunks).boxed()), Put::default())
            .await
            .unwrap();
        assert!(start.elapsed() > 10 * LIMIT);
        assert_eq!(memory.bytes("y").unwrap().len(), 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_producer_is_not_the_stores_stall() {
        let (memory, _, store) = stores();
        let chunks = stream::iter(0..3).then(|number| async move {
            tokio::time::sleep(5 * LIMIT).await;
            Ok(Bytes::from(vec![number; 10]))
        });
        store.put(&key("y"), Body::stream(None, chunks.boxed()), Put::default()).await.unwrap();
        assert_eq!(memory.bytes("y").unwrap().len(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_ends() {
        #[derive(Debug)]
        struct Parts(Limits, bool);
        /// Takes everything, sends it at 4 KiB/s, and reports so or not; then hangs.
        #[async_trait]
        impl Storage for Parts {
            fn limits(&self) -> &Limits {
                &self.0
            }
            async fn put(&self, _: &Key, body: Body, how: Put) -> Result<Stored> {
                let mut stream = body.into_stream();
                let mut size = 0;
                while let Some(chunk) = stream.next().await {
                    size += chunk?.len();
                }
                for _ in 0..size / 40_960 {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    if self.1 {
                        how.activity.touch();
                    }
                }
                futures_util::future::pending().await
            }
            async fn get(&self, key: &Key, _: Get) -> Result<Object> {
                Err(Error::new(Kind::NotFound, "nothing is kept").with_key(key))
            }
            async fn head(&self, key: &Key) -> Result<Meta> {
                Err(Error::new(Kind::NotFound, "nothing is kept").with_key(key))
            }
            fn list(&self, _: &Key, _: List) -> BoxStream<'_, Result<Entry>> {
                stream::empty().boxed()
            }
            async fn delete(&self, _: &[Key]) -> Result<Vec<Deleted>> {
                Ok(Vec::new())
            }
            async fn copy(&self, from: &Key, _: &Key) -> Result<Stored> {
                Err(Error::new(Kind::Unsupported, "no copies").with_key(from))
            }
        }
        let limits = Limits { min_part: 5 << 20, ..Limits::unlimited() };
        for (reports, least, most) in [(true, 1340, 1420), (false, 60, 400)] {
            let store = Stall::new(Arc::new(Parts(limits.clone(), reports)), LIMIT);
            let start = Instant::now();
            let error =
                store.put_bytes(&key("y"), vec![0; 5 << 20], Put::default()).await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::Stalled, Class::Ambiguous));
            let seconds = start.elapsed().as_secs();
            assert!((least..most).contains(&seconds), "reports: {reports}, {seconds} s");
        }
    }
}
