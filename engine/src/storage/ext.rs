//! Conveniences for callers of a store. Backends never implement these.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::{Body, Entry, Error, Get, Key, Kind, List, Meta, Put, Result, Storage, Stored};

/// What callers of a store find convenient, built from the contract alone.
#[allow(async_fn_in_trait)] // used with concrete and `dyn` stores of this workspace only
pub trait StorageExt: Storage {
    /// Stores `bytes` under `key`.
    async fn put_bytes(&self, key: &Key, bytes: impl Into<Bytes>, how: Put) -> Result<Stored> {
        self.put(key, Body::bytes(bytes), how).await
    }

    /// Reads an object of at most `limit` bytes into memory.
    async fn get_bytes(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let mut object = self.get(key, Get::default()).await?;
        let size = object.range.end - object.range.start;
        if size > limit {
            return Err(Error::new(
                Kind::Corrupt,
                format!("{size} bytes, where at most {limit} are expected"),
            )
            .with_op("get")
            .with_key(key));
        }
        let mut all = Vec::with_capacity(size as usize);
        while let Some(chunk) = object.body.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    /// The object's meta data, or `None` if there is no such object.
    async fn find(&self, key: &Key) -> Result<Option<Meta>> {
        match self.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every entry of a listing, in memory. For short listings only.
    async fn list_all(&self, prefix: &Key, how: List) -> Result<Vec<Entry>> {
        self.list(prefix, how).try_collect().await
    }

    /// Removes one object.
    async fn delete_one(&self, key: &Key) -> Result<()> {
        for deleted in self.delete(std::slice::from_ref(key)).await? {
            deleted.outcome?;
        }
        Ok(())
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}
