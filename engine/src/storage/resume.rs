//! A store around a store: a download that breaks goes on at the same byte.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::retry::{Backoff, RetryPolicy};
use super::{
    Body, ByteStream, Class, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object,
    Put, Result, Storage, Store, Stored,
};

/// Opens an object again where its stream broke or stalled, at the exact offset
/// and pinned to the version that was being read. An object that changed in
/// between is [`Kind::Changed`], never a splice of two.
///
/// How often the opening itself is repeated is the matter of the store inside.
#[derive(Debug)]
pub struct Resume {
    inner: Store,
    policy: RetryPolicy,
}

impl Resume {
    /// Resumes what breaks in `inner`. Every byte that arrives starts the count
    /// of `policy` anew.
    pub fn new(inner: Store, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }
}

struct Reading {
    store: Store,
    key: Key,
    meta: Meta,
    next: u64,
    end: u64,
    body: Option<ByteStream>,
    backoff: Backoff,
    done: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.done {
            match self.step().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return Some(Ok(chunk)),
                Ok(None) => self.done = true,
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// The next chunk, which is empty after a break that was mended.
    async fn step(&mut self) -> Result<Option<Bytes>> {
        let body = match &mut self.body {
            Some(body) => body,
            none => {
                none.insert(reopen(&self.store, &self.key, &self.meta, self.next..self.end).await?)
            }
        };
        let error = match body.next().await {
            Some(Ok(chunk)) => {
                self.next += chunk.len() as u64;
                if self.next > self.end {
                    return Err(Error::new(
                        Kind::Corrupt,
                        "the store sent more bytes than were asked for",
                    )
                    .with_op("get")
                    .with_key(&self.key));
                }
                self.backoff.reset();
                return Ok(Some(chunk));
            }
            None if self.next == self.end => return Ok(None),
            None => Error::new(
                Kind::Corrupt,
                format!("the stream ended at byte {} of {}", self.next, self.end),
            )
            .with_class(Class::Transient)
            .with_op("get")
            .with_key(&self.key),
            // Every byte is here; only the farewell was lost.
            Some(Err(error)) if self.next == self.end && error.class() != Class::Never => {
                return Ok(None);
            }
            Some(Err(error)) => error,
        };
        self.body = None;
        self.backoff.wait(error).await?;
        Ok(Some(Bytes::new()))
    }
}

async fn reopen(
    store: &Store,
    key: &Key,
    meta: &Meta,
    range: std::ops::Range<u64>,
) -> Result<ByteStream> {
    let how = Get { range: Some(range.clone()), version: meta.version.clone() };
    let changed = |why: &str| {
        Error::new(Kind::Changed, format!("the object {why} while it was being read"))
            .with_op("get")
            .with_key(key)
            .with_hint("Run the command again to read the object as it is now.")
    };
    let object = match store.get(key, how).await {
        Ok(object) => object,
        Err(error) if error.kind() == Kind::NotFound => return Err(changed("was removed")),
        Err(error) => return Err(error),
    };
    let same = object.meta.size == meta.size
        && object.meta.version == meta.version
        && (meta.version.is_some() || object.meta.modified == meta.modified);
    if !same {
        return Err(changed("changed"));
    }
    if object.range != range {
        return Err(Error::new(
            Kind::Internal,
            format!("the store opened the bytes {:?} instead of {range:?}", object.range),
        )
        .with_op("get")
        .with_key(key));
    }
    Ok(object.body)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Resume {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.inner.put(key, body, how).await
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let Object { meta, range, body } = self.inner.get(key, how).await?;
        let reading = Reading {
            store: Store::clone(&self.inner),
            key: key.clone(),
            meta: meta.clone(),
            next: range.start,
            end: range.end,
            body: Some(body),
            backoff: self.policy.start(),
            done: false,
        };
        let body = stream::unfold(reading, |mut reading| async {
            reading.next().await.map(|chunk| (chunk, reading))
        });
        Ok(Object { meta, range, body: body.boxed() })
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
    use crate::storage::faulty::{Fault, Faulty, Op, Rule};
    use crate::storage::{InMemory, StorageExt};
    use std::sync::Arc;

    const SIZE: usize = 3_000_000;

    fn data() -> Vec<u8> {
        (0..SIZE).map(|at| (at % 251) as u8).collect()
    }

    fn stores() -> (Arc<InMemory>, Arc<Faulty>, Resume) {
        let memory = Arc::new(InMemory::new());
        memory.insert("x", data());
        let faulty = Arc::new(Faulty::new(memory.clone()));
        (memory, faulty.clone(), Resume::new(faulty, RetryPolicy::default()))
    }

    fn name() -> Key {
        Key::parse("x").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_breaks_gives_the_same_bytes() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (_, faulty, store) = stores();
        for call in 1..=30 {
            let after = random.u64(0..100_000);
            let fault = if random.bool() {
                Fault::Cut(after)
            } else {
                Fault::Break { after, kind: Kind::Unavailable }
            };
            faulty.add(Rule::on(Op::Get).call(call).fault(fault));
        }
        assert!(store.get_bytes(&name(), SIZE as u64).await.unwrap() == data());
        assert_eq!(faulty.count(Op::Get), 31);
    }

    #[tokio::test(start_paused = true)]
    async fn ranges_resume_too_and_final_errors_are_final() {
        let (_, faulty, store) = stores();
        faulty.add(
            Rule::on(Op::Get).call(1).fault(Fault::Break { after: 10, kind: Kind::Unavailable }),
        );
        let object = store.get(&name(), Get::range(100..200)).await.unwrap();
        let chunks: Vec<_> = object.body.collect().await;
        let back: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
        assert_eq!(back, &data()[100..200]);
        faulty.add(Rule::on(Op::Get).fault(Fault::Break { after: 10, kind: Kind::Denied }));
        let error = store.get_bytes(&name(), SIZE as u64).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
    }

    #[tokio::test(start_paused = true)]
    async fn another_object_is_never_spliced_in() {
        for removed in [false, true] {
            let (memory, faulty, store) = stores();
            faulty.add(
                Rule::on(Op::Get)
                    .call(1)
                    .fault(Fault::Break { after: 10, kind: Kind::Unavailable }),
            );
            let mut object = store.get(&name(), Get::default()).await.unwrap();
            object.body.next().await.unwrap().unwrap();
            if removed {
                memory.delete_one(&name()).await.unwrap();
            } else {
                memory.insert("x", data());
            }
            let error = object.body.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), Kind::Changed, "{error}");
            assert!(object.body.next().await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_moves_on_is_given_up() {
        let (_, faulty, store) = stores();
        faulty.add(
            Rule::on(Op::Get).since(2).fault(Fault::Break { after: 0, kind: Kind::Unavailable }),
        );
        faulty.add(
            Rule::on(Op::Get).call(1).fault(Fault::Break { after: 9, kind: Kind::Unavailable }),
        );
        let error = store.get_bytes(&name(), SIZE as u64).await.unwrap_err();
        assert!(error.to_string().contains("gave up"), "{error}");
        assert_eq!(faulty.count(Op::Get), 10);
    }
}
