//! What a case gets: the store, a prefix of its own, data, and the questions
//! that many cases ask.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use walport_engine::storage::{
    Body, Entry, Error, Get, Key, Kind, Limits, List, Object, Put, StorageExt, Store, Stored,
};

use crate::data::{Data, Progress};
use crate::fault::Dialect;
use crate::fault::Faults;
use crate::run::Sizes;
use crate::subject::Subject;
use crate::watch::{Watched, Written};

/// Why a case failed, in words for the owner of the store.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) String);

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Fail(format!("unexpected error: {error} ({:?}, {:?})", error.kind(), error.class()))
    }
}

impl From<String> for Fail {
    fn from(why: String) -> Self {
        Fail(why)
    }
}

/// What a case returns.
pub(crate) type Checked<T = ()> = Result<T, Fail>;

/// Says in which step of a case something went wrong.
pub(crate) trait Step<T> {
    fn step(self, what: impl fmt::Display) -> Checked<T>;
}

impl<T, E: Into<Fail>> Step<T> for Result<T, E> {
    fn step(self, what: impl fmt::Display) -> Checked<T> {
        self.map_err(|error| Fail(format!("{what}: {}", error.into().0)))
    }
}

/// Ends the case as failed.
macro_rules! fail {
    ($($why:tt)*) => { return Err($crate::context::Fail(format!($($why)*))) };
}
/// Ends the case as failed unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)*) => { if !$holds { $crate::context::fail!($($why)*); } };
}
pub(crate) use {ensure, fail};

/// A case's view of the run.
pub(crate) struct Context {
    pub(crate) subject: Subject,
    pub(crate) store: Store,
    pub(crate) prefix: Key,
    pub(crate) sizes: Sizes,
    pub(crate) memory: Option<u64>,
    pub(crate) progress: Progress,
    pub(crate) written: Written,
    pub(crate) rng: Mutex<fastrand::Rng>,
}

impl Context {
    pub(crate) fn limits(&self) -> &Limits {
        self.store.limits()
    }

    /// The key `name` under the prefix of this case.
    pub(crate) fn key(&self, name: &str) -> Key {
        self.prefix.join(name)
    }

    pub(crate) fn full(&self) -> bool {
        self.sizes == Sizes::Full
    }

    /// The first where the run is quick, the second where it is full.
    pub(crate) fn either<T>(&self, quick: T, full: T) -> T {
        if self.full() { full } else { quick }
    }

    pub(crate) fn random(&self, range: Range<u64>) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(range)
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).shuffle(items);
    }

    /// New data of `size` bytes.
    pub(crate) fn data(&self, size: u64) -> Data {
        Data::new(self.random(0..u64::MAX), size)
    }

    /// The store, opened anew.
    pub(crate) async fn reopen(&self) -> Checked<Store> {
        let inner = (self.subject.open)().await.step("opening the store again")?;
        Ok(self.watch(inner))
    }

    /// The store over the way that can be broken, and the switch of that way.
    pub(crate) async fn faulty(&self) -> Checked<(Store, Faults, Option<Dialect>)> {
        let Some(faulty) = &self.subject.faulty else {
            fail!("the subject has no fault hook");
        };
        faulty.faults.disarm();
        let inner = (faulty.open)().await.step("opening the store through the proxy")?;
        Ok((self.watch(inner), faulty.faults.clone(), faulty.dialect))
    }

    fn watch(&self, inner: Store) -> Store {
        Arc::new(Watched { inner, progress: self.progress.clone(), written: self.written.clone() })
    }

    /// Stores `data` and checks what the store says it stored.
    pub(crate) async fn put(&self, key: &Key, data: Data) -> Checked<Stored> {
        self.put_to(&self.store, key, data, true).await
    }

    /// The same on another opened store, the size told or not.
    pub(crate) async fn put_to(
        &self,
        store: &Store,
        key: &Key,
        data: Data,
        known: bool,
    ) -> Checked<Stored> {
        let size = data.size();
        let what = format!("put of {size} bytes, size {}", if known { "known" } else { "unknown" });
        let stored =
            store.put(key, data.body(known, &self.progress), Put::default()).await.step(&what)?;
        ensure!(stored.size == size, "{what}: the store says it stored {} bytes", stored.size);
        Ok(stored)
    }

    /// Stores a small object.
    pub(crate) async fn put_text(&self, key: &Key, text: &str) -> Checked<Stored> {
        let what = format!("put of {key}");
        let stored =
            self.store.put_bytes(key, text.to_owned(), Put::default()).await.step(&what)?;
        ensure!(
            stored.size == text.len() as u64,
            "{what}: the store says it stored {} bytes",
            stored.size
        );
        Ok(stored)
    }

    /// Stores many small objects, several at a time.
    pub(crate) async fn put_many(&self, keys: &[Key]) -> Checked {
        futures_util::stream::iter(keys.iter().map(Ok))
            .try_for_each_concurrent(16, |key| async move {
                self.put_text(key, key.name()).await.map(drop)
            })
            .await
    }

    /// Reads the object whole and compares it with `data`.
    pub(crate) async fn expect(&self, key: &Key, data: Data) -> Checked {
        self.expect_from(&self.store, key, data).await
    }

    /// The same on another opened store.
    pub(crate) async fn expect_from(&self, store: &Store, key: &Key, data: Data) -> Checked {
        let what = format!("get of {} bytes", data.size());
        let object = store.get(key, Get::default()).await.step(&what)?;
        drain(object, data, 0..data.size()).await.step(&what)
    }

    /// Reads a range and compares it with the same range of `data`.
    pub(crate) async fn expect_range(
        &self,
        key: &Key,
        data: Data,
        ask: Range<u64>,
        want: Range<u64>,
    ) -> Checked {
        let what = format!("get of bytes {}..{} of {}", ask.start, ask.end, data.size());
        let object = self.store.get(key, Get::range(ask)).await.step(&what)?;
        drain(object, data, want).await.step(&what)
    }

    /// Fails if `head`, `get` or a listing shows the object.
    pub(crate) async fn expect_absent(&self, key: &Key, when: &str) -> Checked {
        expect_kind(self.store.head(key).await, Kind::NotFound, format_args!("head {when}"))?;
        expect_kind(
            self.store.get(key, Get::default()).await,
            Kind::NotFound,
            format_args!("get {when}"),
        )?;
        let listed = self.list(&self.prefix).await.step(format_args!("list {when}"))?;
        ensure!(!listed.contains(key), "list {when}: it shows {key}");
        Ok(())
    }

    /// The keys of the objects below `prefix`, as listed.
    pub(crate) async fn list(&self, prefix: &Key) -> Checked<Vec<Key>> {
        self.list_how(prefix, List::recursive()).await
    }

    /// The keys of a listing, prefixes included.
    pub(crate) async fn list_how(&self, prefix: &Key, how: List) -> Checked<Vec<Key>> {
        let entries = self.store.list(prefix, how).map_ok(|entry| match entry {
            Entry::Object(key, _) | Entry::Prefix(key) => key,
        });
        Ok(entries.try_collect().await?)
    }
}

/// Reads an open object to its end and compares it.
pub(crate) async fn drain(mut object: Object, data: Data, want: Range<u64>) -> Checked {
    ensure!(
        object.meta.size == data.size(),
        "the size of the whole object is given as {} instead of {}",
        object.meta.size,
        data.size()
    );
    ensure!(
        object.range == want,
        "the store says it sends bytes {}..{} instead of {}..{}",
        object.range.start,
        object.range.end,
        want.start,
        want.end
    );
    let mut checker = data.checker(want);
    while let Some(chunk) = object.body.next().await {
        checker.feed(&chunk?)?;
    }
    Ok(checker.finish()?)
}

/// Fails unless `result` is an error of `kind`.
pub(crate) fn expect_kind<T>(
    result: walport_engine::Result<T>,
    kind: Kind,
    what: impl fmt::Display,
) -> Checked<Error> {
    match result {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => fail!("{what}: expected {kind:?}, got {:?}: {error}", error.kind()),
        Ok(_) => fail!("{what}: expected {kind:?}, got success"),
    }
}

/// A body that sends `data` up to byte `until` and then yields an error.
pub(crate) fn failing_body(data: Data, until: u64, known: bool, progress: &Progress) -> Body {
    let sent = Data::stream(data, progress);
    let limit = until / crate::data::BLOCK;
    let broken = futures_util::stream::once(async {
        Err(Error::new(Kind::Corrupt, "the source of the body broke on purpose"))
    });
    let stream = sent.take(limit as usize).chain(broken).boxed();
    Body::stream(known.then(|| data.size()), stream)
}
