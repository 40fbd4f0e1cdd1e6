//! A store around a store: tries again, by the class of the error and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::Instant;

use super::body::exactly;
use super::{
    Body, ByteStream, Class, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object,
    Put, Result, Storage, Store, Stored,
};
use crate::settings::Settings;

/// How often, and for how long, something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at most, the first one included; 1 never tries again.
    pub attempts: u32,
    /// The longest pause after the first failure; it doubles with each one.
    pub base: Duration,
    /// The longest pause at all, unless the store asks for a longer one.
    pub ceiling: Duration,
    /// From the first failure on, no attempt begins after so much time.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            base: Duration::from_millis(100),
            ceiling: Duration::from_secs(20),
            budget: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// What the settings say.
    pub fn from_settings(settings: &Settings) -> Self {
        let default = Self::default();
        Self {
            attempts: settings
                .number("WALPORT_RETRY_ATTEMPTS")
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(default.attempts),
            base: settings.duration("WALPORT_RETRY_BASE").unwrap_or(default.base),
            ceiling: settings.duration("WALPORT_RETRY_MAX_DELAY").unwrap_or(default.ceiling),
            budget: settings.duration("WALPORT_RETRY_BUDGET").unwrap_or(default.budget),
        }
    }

    /// The pauses of one piece of work.
    pub(super) fn start(self) -> Backoff {
        Backoff { policy: self, failures: 0, since: None }
    }
}

/// Counts the failures of one piece of work and pauses between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// There was progress: what comes now is a first failure again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// Waits until the work may be tried again, or gives the error back: if its
    /// class says that trying is of no use, or if enough was tried.
    pub(super) async fn wait(&mut self, error: Error) -> Result<()> {
        if error.class() == Class::Never {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.failures += 1;
        let pause = self.pause(&error);
        if self.failures >= self.policy.attempts || since.elapsed() + pause > self.policy.budget {
            return Err(if self.failures == 1 {
                error
            } else {
                error.context(format!("gave up after {} attempts", self.failures))
            });
        }
        log::warn!("{error}; trying again in {:.1} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Full jitter: anything up to the doubling limit, so that many clients that
    /// failed together do not come back together.
    fn pause(&self, error: &Error) -> Duration {
        let doubled = self.policy.base.saturating_mul(1 << (self.failures - 1).min(20));
        let most = doubled.min(self.policy.ceiling);
        let jitter = most.mul_f64(fastrand::f64());
        match error.retry_after() {
            Some(asked) => asked + jitter.min(self.policy.base),
            // The store is overloaded: no attempt at once.
            None if error.class() == Class::Throttled => most / 2 + jitter / 2,
            None => jitter,
        }
    }
}

/// Repeats what failed with an error that says that this can help.
///
/// A `put` is repeated only if its body can be started again. If the outcome of
/// a create is unknown and the next attempt finds the object there, its bytes are
/// compared: our own are success. A listing goes on after the last key, where the
/// store lists in order. An open stream of bytes is [`Resume`](super::resume::Resume)'s work.
#[derive(Debug)]
pub struct Retry {
    inner: Store,
    policy: RetryPolicy,
}

impl Retry {
    /// Repeats what fails in `inner`.
    pub fn new(inner: Store, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// What a create of unknown outcome found: our own bytes, or another's, which
    /// is the `error` that came.
    async fn ours(&self, key: &Key, mut body: Body, error: Error) -> Result<Stored> {
        let mut backoff = self.policy.start();
        while let Some(again) = body.replay() {
            let ours = std::mem::replace(&mut body, again);
            match self.holds(key, ours).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => break,
                Err(broken) => backoff.wait(broken).await?,
            }
        }
        Err(error)
    }

    /// Whether `key` holds the bytes of `body`.
    async fn holds(&self, key: &Key, body: Body) -> Result<Option<Stored>> {
        let object = self.inner.get(key, Get::default()).await?;
        if body.size().is_some_and(|size| size != object.meta.size) {
            return Ok(None);
        }
        let stored = Stored { size: object.meta.size, version: object.meta.version };
        let theirs = exactly(stored.size, object.body);
        Ok(equal(body.into_stream(), theirs).await?.then_some(stored))
    }
}

/// Whether two streams carry the same bytes.
pub(super) async fn equal(mut one: ByteStream, mut other: ByteStream) -> Result<bool> {
    let (mut a, mut b) = (bytes::Bytes::new(), bytes::Bytes::new());
    loop {
        while a.is_empty() {
            match one.next().await {
                Some(chunk) => a = chunk?,
                None => break,
            }
        }
        while b.is_empty() {
            match other.next().await {
                Some(chunk) => b = chunk?,
                None => break,
            }
        }
        let common = a.len().min(b.len());
        if common == 0 {
            return Ok(a.is_empty() && b.is_empty());
        }
        if a.split_to(common) != b.split_to(common) {
            return Ok(false);
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Retry {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let mut backoff = self.policy.start();
        let mut body = body;
        let mut unknown = false;
        loop {
            let again = body.replay();
            let error = match self.inner.put(key, body, how.clone()).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            let Some(next) = again else { return Err(error) };
            if unknown && how.if_absent && error.kind() == Kind::AlreadyExists {
                return self.ours(key, next, error).await;
            }
            unknown |= error.class() == Class::Ambiguous;
            backoff.wait(error).await?;
            body = next;
        }
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let mut backoff = self.policy.start();
        loop {
            match self.inner.get(key, how.clone()).await {
                Ok(object) => return Ok(object),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let mut backoff = self.policy.start();
        loop {
            match self.inner.head(key).await {
                Ok(meta) => return Ok(meta),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let listing = Listing {
            inner: &self.inner,
            prefix: prefix.clone(),
            how,
            current: None,
            last: None,
            resumed: false,
            backoff: self.policy.start(),
            done: false,
        };
        stream::unfold(listing, |mut listing| async {
            listing.next().await.map(|entry| (entry, listing))
        })
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut backoff = self.policy.start();
        let mut done: Vec<Option<Deleted>> = keys.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        loop {
            let wanted: Vec<Key> = open.iter().map(|&index| keys[index].clone()).collect();
            let deleted = match self.inner.delete(&wanted).await {
                Ok(deleted) => deleted,
                Err(error) => {
                    backoff.wait(error).await?;
                    continue;
                }
            };
            let mut failed = Vec::new();
            let mut told = None;
            for (index, deleted) in open.iter().copied().zip(deleted) {
                if let Err(error) = &deleted.outcome
                    && error.class() != Class::Never
                {
                    failed.push(index);
                    told = Some(repeat(error));
                }
                done[index] = Some(deleted);
            }
            open = failed;
            // A failure that is final stands in the outcome of its key.
            let Some(error) = told else { break };
            if backoff.wait(error).await.is_err() {
                break;
            }
        }
        let all: Option<Vec<Deleted>> = done.into_iter().collect();
        all.ok_or_else(|| {
            Error::new(Kind::Internal, "the store gave fewer answers than there were keys")
                .with_op("delete")
        })
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let mut backoff = self.policy.start();
        loop {
            match self.inner.copy(from, to).await {
                Ok(stored) => return Ok(stored),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }
}

/// A second error that says the same.
pub(super) fn repeat(error: &Error) -> Error {
    let told = Error::new(error.kind(), error.to_string()).with_class(error.class());
    let told = error.retry_after().into_iter().fold(told, Error::with_retry_after);
    error.hint().into_iter().fold(told, Error::with_hint)
}

struct Listing<'a> {
    inner: &'a Store,
    prefix: Key,
    how: List,
    current: Option<BoxStream<'a, Result<Entry>>>,
    last: Option<Key>,
    resumed: bool,
    backoff: Backoff,
    done: bool,
}

impl Listing<'_> {
    async fn next(&mut self) -> Option<Result<Entry>> {
        while !self.done {
            let current = self.current.get_or_insert_with(|| {
                let mut how = self.how.clone();
                how.after = self.last.clone().or(how.after);
                self.inner.list(&self.prefix, how)
            });
            match current.next().await {
                Some(Ok(entry)) => {
                    // Some stores give the folder of `after` once more.
                    if self.resumed && self.last.as_ref().is_some_and(|last| entry.key() <= last) {
                        continue;
                    }
                    self.backoff.reset();
                    self.last = Some(entry.key().clone());
                    return Some(Ok(entry));
                }
                Some(Err(error)) => {
                    self.current = None;
                    // Without an order nobody knows what is still to come.
                    let lost = self.last.is_some() && !self.inner.limits().ordered_list;
                    let waited = if lost { Err(error) } else { self.backoff.wait(error).await };
                    self.resumed = true;
                    if let Err(error) = waited {
                        self.done = true;
                        return Some(Err(error));
                    }
                }
                None => self.done = true,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::faulty::{Fault, Faulty, Op, Rule};
    use crate::storage::{InMemory, StorageExt};
    use std::sync::Arc;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn stores() -> (Arc<InMemory>, Arc<Faulty>, Retry) {
        let memory = Arc::new(InMemory::new());
        let faulty = Arc::new(Faulty::new(memory.clone()));
        (memory, faulty.clone(), Retry::new(faulty, RetryPolicy::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_class_decides() {
        let (_, faulty, store) = stores();
        for (kind, calls) in [
            (Kind::Unavailable, 3),
            (Kind::Throttled, 3),
            (Kind::Stalled, 3),
            (Kind::Denied, 1),
            (Kind::Unauthenticated, 1),
            (Kind::NotFound, 1),
            (Kind::Corrupt, 1),
        ] {
            faulty.heal();
            faulty.add(Rule::on(Op::Put).first(2).fault(Fault::Fail(kind)));
            let before = faulty.count(Op::Put);
            let done = store.put_bytes(&key("x"), "1", Put::default()).await;
            assert_eq!(faulty.count(Op::Put) - before, calls, "{kind:?}");
            assert_eq!(done.is_ok(), calls == 3, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_time_are_bounded() {
        let (_, faulty, store) = stores();
        for op in [Op::Put, Op::Get, Op::Head, Op::List, Op::Delete, Op::Copy] {
            faulty.add(Rule::on(op).fault(Fault::Fail(Kind::Unavailable)));
        }
        let start = Instant::now();
        let name = key("x");
        let errors = [
            store.put_bytes(&name, "1", Put::default()).await.unwrap_err(),
            store.get(&name, Get::default()).await.unwrap_err(),
            store.head(&name).await.unwrap_err(),
            store.list_all(&Key::root(), List::default()).await.unwrap_err(),
            store.delete(std::slice::from_ref(&name)).await.unwrap_err(),
            store.copy(&name, &name).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("gave up after 10 attempts"), "{error}");
        }
        assert_eq!(faulty.calls().len(), 60);
        assert!(start.elapsed() <= 6 * RetryPolicy::default().budget);

        faulty.heal();
        faulty.add(Rule::on(Op::Head).fault(Fault::Throttle(Duration::from_secs(200))));
        let (start, before) = (Instant::now(), faulty.count(Op::Head));
        store.head(&name).await.unwrap_err();
        assert_eq!(faulty.count(Op::Head) - before, 2, "one wait of 200 s fits into 300 s");
        assert!(start.elapsed() >= Duration::from_secs(200), "the wait asked for is honoured");
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_is_repeated_only_if_its_body_can_be() {
        let (memory, faulty, store) = stores();
        faulty.add(
            Rule::on(Op::Put).call(1).fault(Fault::Break { after: 2, kind: Kind::Unavailable }),
        );
        let once = stream::iter([Ok("abc".into())]).boxed();
        store.put(&key("x"), Body::stream(None, once), Put::default()).await.unwrap_err();
        assert_eq!((faulty.count(Op::Put), memory.names().len()), (1, 0));
        faulty.heal();
        faulty.add(
            Rule::on(Op::Put).call(1).fault(Fault::Break { after: 2, kind: Kind::Unavailable }),
        );
        store.put_bytes(&key("x"), "abc", Put::default()).await.unwrap();
        assert_eq!(memory.bytes("x").unwrap(), "abc");
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_of_unknown_outcome_looks_at_what_is_stored() {
        let (memory, faulty, store) = stores();
        faulty.add(Rule::on(Op::Put).call(1).fault(Fault::FailAfter));
        let stored = store.put_bytes(&key("x"), "ours", Put::create()).await.unwrap();
        assert_eq!((stored.size, faulty.count(Op::Put)), (4, 2));
        // Another's object of the same size is not taken for ours.
        memory.insert("y", "them");
        faulty.heal();
        let unknown = Error::new(Kind::Unavailable, "lost").with_class(Class::Ambiguous);
        assert_eq!(unknown.class(), Class::Ambiguous);
        faulty.add(Rule::on(Op::Put).call(1).fault(Fault::Fail(Kind::Unavailable)));
        let error = store.put_bytes(&key("y"), "ours", Put::create()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(store.holds(&key("y"), Body::bytes("ours")).await.unwrap().is_none());
        assert!(store.holds(&key("y"), Body::bytes("them")).await.unwrap().is_some());
        assert!(store.holds(&key("y"), Body::bytes("longer")).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_goes_on_after_the_last_key() {
        let (memory, faulty, store) = stores();
        let names: Vec<String> =
            (0..50).map(|number| format!("d{}/{number:02}", number / 10)).collect();
        for name in &names {
            memory.insert(name.clone(), "1");
        }
        for call in 1..=4 {
            faulty.add(
                Rule::on(Op::List)
                    .call(call)
                    .fault(Fault::Break { after: 7, kind: Kind::Unavailable }),
            );
        }
        let found = store.list_all(&Key::root(), List::recursive()).await.unwrap();
        let found: Vec<_> = found.iter().map(|entry| entry.key().to_string()).collect();
        assert_eq!(found, names);
        assert_eq!(faulty.count(Op::List), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unordered_listing_is_not_spliced() {
        let limits = Limits { ordered_list: false, ..Limits::unlimited() };
        let memory = Arc::new(InMemory::with_limits(limits));
        for name in ["a", "b", "c"] {
            memory.insert(name, "1");
        }
        let faulty = Arc::new(Faulty::new(memory));
        let store = Retry::new(faulty.clone(), RetryPolicy::default());
        faulty.add(
            Rule::on(Op::List).call(1).fault(Fault::Break { after: 0, kind: Kind::Unavailable }),
        );
        assert_eq!(store.list_all(&Key::root(), List::recursive()).await.unwrap().len(), 3);
        faulty.add(
            Rule::on(Op::List).call(1).fault(Fault::Break { after: 2, kind: Kind::Unavailable }),
        );
        let error = store.list_all(&Key::root(), List::recursive()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_compared_whatever_their_chunks() {
        let split = |text: &'static str, size: usize| {
            let chunks: Vec<_> = text
                .as_bytes()
                .chunks(size)
                .map(|part| Ok(bytes::Bytes::from_static(part)))
                .collect();
            stream::iter(chunks).boxed()
        };
        assert!(equal(split("abcdefg", 2), split("abcdefg", 3)).await.unwrap());
        assert!(!equal(split("abcdefg", 2), split("abcdef", 3)).await.unwrap());
        assert!(!equal(split("abc", 1), split("abd", 3)).await.unwrap());
        assert!(equal(split("", 1), split("", 1)).await.unwrap());
    }
}
