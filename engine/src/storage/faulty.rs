//! A store that fails by plan: a store around a store, for tests of whatever
//! must survive failures, and for the suite to prove that it notices them.
//!
//! ```
//! use std::sync::Arc;
//! use walport_engine::storage::faulty::{Fault, Faulty, Op, Rule};
//! use walport_engine::storage::{InMemory, Kind};
//!
//! // The second `put` fails, and every `get` breaks after 100 bytes.
//! let store = Faulty::new(Arc::new(InMemory::new()))
//!     .with(Rule::on(Op::Put).call(2).fault(Fault::Fail(Kind::Unavailable)))
//!     .with(Rule::on(Op::Get).fault(Fault::Break { after: 100, kind: Kind::Unavailable }));
//! # drop(store);
//! ```

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::{
    Body, ByteStream, Class, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object,
    Put, Result, Storage, Store, Stored,
};

/// An operation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names of the methods
pub enum Op {
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
}

impl Op {
    /// The name of the method.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::Head => "head",
            Op::List => "list",
            Op::Delete => "delete",
            Op::Copy => "copy",
        }
    }
}

/// What goes wrong. What does not fit an operation leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Any: fails before anything is done, with the class of the kind.
    Fail(Kind),
    /// Any: fails with [`Kind::Throttled`] and asks to wait.
    Throttle(Duration),
    /// Any: does the work, then fails with [`Class::Ambiguous`].
    FailAfter,
    /// Any: does nothing, for ever.
    Hang,
    /// Any: waits before the work.
    Delay(Duration),
    /// `put`, `get`, `list`: an error after so many bytes or entries.
    Break {
        /// Bytes of a body, or entries of a listing, that go through.
        after: u64,
        /// The error's kind.
        kind: Kind,
    },
    /// `get`, `list`: a silent end after so many bytes or entries.
    Cut(u64),
    /// `put`, `get`: so many bytes, then nothing, for ever.
    Stall(u64),
    /// `put`, `get`: bodies move in pieces, with a pause before each.
    Slow {
        /// Bytes of one piece.
        piece: usize,
        /// The pause before each.
        pause: Duration,
    },
    /// `put`, `get`, `head`: sizes are told wrong by so many bytes.
    WrongSize(i64),
    /// `put`, `get`: the bit at this byte is flipped.
    Flip(u64),
    /// `put`, `delete`: says Ok and does nothing.
    Lie,
    /// `put`: what has arrived is stored even where the body fails.
    KeepPart,
    /// `put`: [`Put::if_absent`] is looked up first and then ignored.
    Race,
    /// `list`: out of order (two neighbours swapped).
    Disorder,
    /// `get`: the wanted version is ignored.
    Unpinned,
}

/// When a [`Fault`] strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    op: Op,
    from: u64,
    to: u64,
    name: Option<String>,
    fault: Option<Fault>,
    calls: u64,
}

impl Rule {
    /// A rule for every call of `op`.
    pub const fn on(op: Op) -> Self {
        Self { op, from: 1, to: u64::MAX, name: None, fault: None, calls: 0 }
    }

    /// Only for the `n`-th call, from 1.
    pub const fn call(mut self, n: u64) -> Self {
        self.from = n;
        self.to = n;
        self
    }

    /// Only for the first `n` calls.
    pub const fn first(mut self, n: u64) -> Self {
        self.from = 1;
        self.to = n;
        self
    }

    /// Only from the `n`-th call on.
    pub const fn since(mut self, n: u64) -> Self {
        self.from = n;
        self.to = u64::MAX;
        self
    }

    /// Only for keys that hold `text`; other calls are not counted.
    pub fn key(mut self, text: impl Into<String>) -> Self {
        self.name = Some(text.into());
        self
    }

    /// What happens.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    fn strikes(&mut self, op: Op, key: &Key) -> Option<Fault> {
        let fits = self.op == op
            && self.name.as_ref().is_none_or(|name| key.as_str().contains(name.as_str()));
        if !fits {
            return None;
        }
        self.calls += 1;
        self.fault.clone().filter(|_| (self.from..=self.to).contains(&self.calls))
    }
}

/// A store whose calls fail by the rules given; the first rule that fits wins.
#[derive(Debug)]
pub struct Faulty {
    inner: Store,
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<(Op, Key)>>,
}

impl Faulty {
    /// `inner`, without a fault so far.
    pub fn new(inner: Store) -> Self {
        Self { inner, rules: Mutex::default(), calls: Mutex::default() }
    }

    /// Adds a rule.
    pub fn with(self, rule: Rule) -> Self {
        self.add(rule);
        self
    }

    /// Adds a rule to a store in use.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Forgets every rule: the store is well again.
    pub fn heal(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The calls so far, a delete with its first key, a listing with its prefix.
    pub fn calls(&self) -> Vec<(Op, Key)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often `op` was called.
    pub fn count(&self, op: Op) -> usize {
        self.calls().iter().filter(|(called, _)| *called == op).count()
    }

    fn next(&self, op: Op, key: &Key) -> Option<Fault> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((op, key.clone()));
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        // Every rule counts the call, whichever of them strikes.
        rules.iter_mut().fold(None, |found, rule| {
            let strikes = rule.strikes(op, key);
            found.or(strikes)
        })
    }

    /// Faults that come before the work of any operation; gives back the rest.
    async fn before(&self, op: Op, key: &Key) -> Result<Option<Fault>> {
        match self.next(op, key) {
            Some(Fault::Fail(kind)) => Err(planned(kind, op, key)),
            Some(Fault::Throttle(wait)) => {
                Err(planned(Kind::Throttled, op, key).with_retry_after(wait))
            }
            Some(Fault::Hang) => futures_util::future::pending().await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

fn planned(kind: Kind, op: Op, key: &Key) -> Error {
    Error::new(kind, "a failure by plan").with_op(op.name()).with_key(key)
}

fn ambiguous<T>(done: Result<T>, fault: Option<&Fault>, op: Op, key: &Key) -> Result<T> {
    let value = done?;
    match fault {
        Some(Fault::FailAfter) => {
            Err(planned(Kind::Unavailable, op, key).with_class(Class::Ambiguous))
        }
        _ => Ok(value),
    }
}

/// Does to the bytes of a body what `fault` says.
fn distort(stream: ByteStream, fault: Option<Fault>, op: Op, key: &Key) -> ByteStream {
    let broken = match &fault {
        Some(Fault::Break { kind, .. }) => Some((*kind, key.clone())),
        _ => None,
    };
    match fault {
        Some(Fault::Break { after, .. }) => first(stream, after)
            .chain(stream::iter(broken.map(|(kind, key)| Err(planned(kind, op, &key)))))
            .boxed(),
        Some(Fault::Cut(after)) => first(stream, after),
        Some(Fault::Stall(after)) => first(stream, after).chain(stream::pending()).boxed(),
        Some(Fault::Slow { piece, pause }) => pieces(stream, piece.max(1))
            .then(move |chunk| async move {
                tokio::time::sleep(pause).await;
                chunk
            })
            .boxed(),
        Some(Fault::Flip(at)) => {
            let mut seen = 0;
            stream
                .map_ok(move |chunk| {
                    let from = seen;
                    seen += chunk.len() as u64;
                    if !(from..seen).contains(&at) {
                        return chunk;
                    }
                    let mut changed = chunk.to_vec();
                    changed[(at - from) as usize] ^= 1;
                    Bytes::from(changed)
                })
                .boxed()
        }
        _ => stream,
    }
}

/// The first `limit` bytes.
fn first(stream: ByteStream, limit: u64) -> ByteStream {
    let state = (stream, limit);
    stream::unfold(state, |(mut stream, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = stream.next().await?;
        let chunk = chunk.map(|chunk| {
            chunk.slice(..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)))
        });
        let taken = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Some((chunk, (stream, left - taken)))
    })
    .boxed()
}

/// The same bytes in chunks of at most `piece`.
fn pieces(stream: ByteStream, piece: usize) -> ByteStream {
    let state = (stream, Bytes::new());
    stream::unfold(state, move |(mut stream, mut rest)| async move {
        while rest.is_empty() {
            match stream.next().await? {
                Ok(chunk) => rest = chunk,
                Err(error) => return Some((Err(error), (stream, rest))),
            }
        }
        let chunk = rest.split_to(piece.min(rest.len()));
        Some((Ok(chunk), (stream, rest)))
    })
    .boxed()
}

fn wrong(size: u64, fault: Option<&Fault>) -> u64 {
    match fault {
        Some(Fault::WrongSize(by)) => size.saturating_add_signed(*by),
        _ => size,
    }
}

/// What arrives before an error, as a whole body.
async fn arrived(body: Body) -> Body {
    let mut stream = body.into_stream();
    let mut data = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        data.extend_from_slice(&chunk);
    }
    Body::bytes(data)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Faulty {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, mut how: Put) -> Result<Stored> {
        let fault = self.before(Op::Put, key).await?;
        let body = match &fault {
            Some(Fault::Lie) => {
                let mut stream = body.into_stream();
                let mut size = 0;
                while let Some(chunk) = stream.next().await {
                    size += chunk?.len() as u64;
                }
                return Ok(Stored { size, version: None });
            }
            Some(Fault::KeepPart) => arrived(body).await,
            Some(Fault::Race) => {
                if how.if_absent && self.inner.head(key).await.is_ok() {
                    return Err(planned(Kind::AlreadyExists, Op::Put, key));
                }
                how.if_absent = false;
                // The gap in which another creator comes.
                tokio::time::sleep(Duration::from_millis(5)).await;
                body
            }
            Some(Fault::Break { .. } | Fault::Stall(_) | Fault::Slow { .. } | Fault::Flip(_)) => {
                let (key, fault) = (key.clone(), fault.clone());
                body.map(move |stream| distort(stream, fault.clone(), Op::Put, &key))
            }
            _ => body,
        };
        let stored = self.inner.put(key, body, how).await;
        let mut stored = ambiguous(stored, fault.as_ref(), Op::Put, key)?;
        stored.size = wrong(stored.size, fault.as_ref());
        Ok(stored)
    }

    async fn get(&self, key: &Key, mut how: Get) -> Result<Object> {
        let fault = self.before(Op::Get, key).await?;
        if fault == Some(Fault::Unpinned) {
            how.version = None;
        }
        let mut object = ambiguous(self.inner.get(key, how).await, fault.as_ref(), Op::Get, key)?;
        object.meta.size = wrong(object.meta.size, fault.as_ref());
        object.body = distort(object.body, fault, Op::Get, key);
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let fault = self.before(Op::Head, key).await?;
        let mut meta = ambiguous(self.inner.head(key).await, fault.as_ref(), Op::Head, key)?;
        meta.size = wrong(meta.size, fault.as_ref());
        Ok(meta)
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        let key = prefix.clone();
        async move {
            let fault = match self.before(Op::List, &key).await {
                Ok(fault) => fault,
                Err(error) => return stream::iter([Err(error)]).boxed(),
            };
            let entries = self.inner.list(&key, how);
            match fault {
                Some(Fault::Cut(after)) => entries.take(after as usize).boxed(),
                Some(Fault::Break { after, kind }) => entries
                    .take(after as usize)
                    .chain(stream::iter([Err(planned(kind, Op::List, &key))]))
                    .boxed(),
                Some(Fault::Disorder) => entries
                    .chunks(2)
                    .flat_map(|mut pair| {
                        pair.reverse();
                        stream::iter(pair)
                    })
                    .boxed(),
                Some(Fault::FailAfter) => {
                    let error =
                        planned(Kind::Unavailable, Op::List, &key).with_class(Class::Ambiguous);
                    stream::iter([Err(error)]).boxed()
                }
                _ => entries,
            }
        }
        .flatten_stream()
        .boxed()
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let root = Key::root();
        let key = keys.first().unwrap_or(&root);
        let fault = self.before(Op::Delete, key).await?;
        if fault == Some(Fault::Lie) {
            return Ok(keys
                .iter()
                .map(|key| Deleted { key: key.clone(), outcome: Ok(()) })
                .collect());
        }
        ambiguous(self.inner.delete(keys).await, fault.as_ref(), Op::Delete, key)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let fault = self.before(Op::Copy, from).await?;
        ambiguous(self.inner.copy(from, to).await, fault.as_ref(), Op::Copy, from)
    }
}
