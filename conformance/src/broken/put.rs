//! Writes that lie.

use futures_util::StreamExt;
use walport_engine::memory::CHUNK;
use walport_engine::storage::{Body, Error, Key, Kind, Put, Result, StorageExt, Stored};

use super::{Broken, Lie};

impl Broken {
    pub(super) async fn put_lying(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        match self.lie {
            Lie::ShowsPartial if !how.if_absent => self.put_in_sight(key, body).await,
            Lie::KeepsBroken => self.put_broken(key, body, how).await,
            Lie::KeepsKilled if !how.if_absent => self.put_and_leave(key, body).await,
            Lie::LosesTail if body.size().is_none() => self.put_without_tail(key, body, how).await,
            Lie::ReportsWrongSize => {
                let stored = self.inner.put(key, body, how).await?;
                // Only objects of more than one chunk of 64 KiB, and few of them.
                let wrong = stored.size == 100_000 && key.as_str().contains("nested/");
                Ok(Stored { size: if wrong { 34_464 } else { stored.size }, ..stored })
            }
            Lie::CreateRaces if how.if_absent => self.create_racing(key, body).await,
            Lie::CreateOverwrites => self.inner.put(key, body, Put::default()).await,
            Lie::CreateLosesSilently if how.if_absent => match self.inner.put(key, body, how).await
            {
                Err(error) if error.kind() == Kind::AlreadyExists => {
                    let meta = self.inner.head(key).await?;
                    Ok(Stored { size: meta.size, version: meta.version })
                }
                stored => stored,
            },
            Lie::DeletesBeforeReplace if !how.if_absent => {
                let (all, broken) = collect(body).await;
                broken.map_or(Ok(()), Err)?;
                self.inner.delete_one(key).await?;
                tokio::task::yield_now().await;
                self.inner.put_bytes(key, all, how).await
            }
            _ => self.inner.put(key, body, how).await,
        }
    }

    /// Stores what has arrived again and again while more arrives.
    async fn put_in_sight(&self, key: &Key, body: Body) -> Result<Stored> {
        let old = self.inner.get_bytes(key, u64::MAX).await.ok();
        let mut stream = body.into_stream();
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => all.extend_from_slice(&chunk),
                Err(error) => {
                    match old {
                        Some(old) => drop(self.inner.put_bytes(key, old, Put::default()).await?),
                        None => self.inner.delete_one(key).await?,
                    }
                    return Err(error);
                }
            }
            self.inner.put_bytes(key, all.clone(), Put::default()).await?;
        }
        self.inner.put_bytes(key, all, Put::default()).await
    }

    async fn put_broken(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let (all, broken) = collect(body).await;
        let stored = self.inner.put_bytes(key, all, how).await?;
        broken.map_or(Ok(stored), Err)
    }

    /// Nothing is seen while the writer lives; when it dies, what it had is.
    async fn put_and_leave(&self, key: &Key, body: Body) -> Result<Stored> {
        let mut last_words = LastWords { store: self, key, all: Vec::new() };
        let mut stream = body.into_stream();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => last_words.all.extend_from_slice(&chunk),
                Err(error) => {
                    last_words.all.clear();
                    return Err(error);
                }
            }
        }
        let all = std::mem::take(&mut last_words.all);
        self.inner.put_bytes(key, all, Put::default()).await
    }

    async fn put_without_tail(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let (mut all, broken) = collect(body).await;
        broken.map_or(Ok(()), Err)?;
        let told = all.len();
        if told > CHUNK && told % CHUNK == 1 {
            all.pop();
        }
        let stored = self.inner.put_bytes(key, all, how).await?;
        Ok(Stored { size: told as u64, ..stored })
    }

    async fn create_racing(&self, key: &Key, body: Body) -> Result<Stored> {
        if self.inner.find(key).await?.is_some() {
            return Err(Error::new(Kind::AlreadyExists, "it exists").with_op("put").with_key(key));
        }
        self.inner.put(key, body, Put::default()).await
    }
}

/// Stores what a killed writer had, as a writer in place does.
struct LastWords<'a> {
    store: &'a Broken,
    key: &'a Key,
    all: Vec<u8>,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        use futures_util::FutureExt;

        if !self.all.is_empty() {
            let all = std::mem::take(&mut self.all);
            // The stores in memory that this is used with never wait.
            drop(self.store.inner.put_bytes(self.key, all, Put::default()).now_or_never());
        }
    }
}

/// What came, and the error that ended it.
async fn collect(body: Body) -> (Vec<u8>, Option<Error>) {
    let mut stream = body.into_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}
