//! The store of Google Cloud Storage: the contract, in requests.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::{HeaderMap, LAST_MODIFIED};
use http::{Method, StatusCode};
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::memory::CHUNK;
use walport_engine::storage::{
    Body, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Open, Put, Storage, Stored,
};

use super::client::{Call, Client};
use super::settings::{Config, MAX_OBJECT};
use super::{copy, credentials, delete, list, upload};
use crate::http::{opened, stream_of};

/// One bucket, or a path in it.
#[derive(Debug)]
pub struct Gcs {
    client: Arc<Client>,
    limits: Limits,
}

impl Gcs {
    /// Opens the store at `open.target`. Nothing is asked of it.
    pub async fn open(open: Open<'_>) -> Result<Self> {
        let config = Config::load(open.target, open.settings, open.budget, open.retries)?;
        let tokens = credentials::load(open.settings)?;
        let unit = CHUNK as u64;
        let limits = Limits {
            attributes: true,
            min_part: unit,
            max_part: 1 << 30,
            max_parts: MAX_OBJECT / unit,
            max_object: MAX_OBJECT,
            max_key: Limits::unlimited().max_key - config.root.len().min(1000),
            ..Limits::unlimited()
        };
        Ok(Self { client: Arc::new(Client::new(config, tokens)?), limits })
    }
}

#[async_trait]
impl Storage for Gcs {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let told = |error: Error| error.with_op("put").with_key(key);
        named(key).map_err(told)?;
        match upload::put(&self.client, key, body, how).await {
            Ok(stored) => Ok(stored),
            // Only a bucket can be missing here.
            Err(error) => Err(told(self.client.missing(error).await)),
        }
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let told = |error: Error| error.with_op("get").with_key(key);
        named(key).map_err(told)?;
        // A range of nothing is no range to the store.
        if how.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return self.nothing(key, how).await.map_err(told);
        }
        let address = self.client.object(&self.client.full(key.as_str()));
        let call = Call::new(Method::GET, address).query("alt", "media");
        let mut call = self.client.with_customer_key(call).map_err(told)?;
        if let Some(range) = &how.range {
            call = call
                .header("range", &format!("bytes={}-{}", range.start, range.end - 1))
                .map_err(told)?;
        }
        if let Some(version) = &how.version {
            call = call.query("ifGenerationMatch", version.clone());
        }
        let response = match self.client.send(&call).await {
            Ok(response) => response,
            Err(trouble) if trouble.is(StatusCode::PRECONDITION_FAILED) => {
                return Err(told(
                    Error::new(Kind::Changed, "the object changed since it was opened")
                        .with_hint("Run the command again to read the object as it is now."),
                ));
            }
            // A range at the very end is nothing, one past it is an error.
            Err(trouble) if trouble.is(StatusCode::RANGE_NOT_SATISFIABLE) => {
                return self.nothing(key, how).await.map_err(told);
            }
            Err(trouble) => return Err(told(self.client.missing(trouble.error).await)),
        };
        let (range, size) = opened(response.status(), response.headers(), &how).map_err(told)?;
        let meta = meta(response.headers(), size).map_err(told)?;
        how.check_version(meta.version.as_deref()).map_err(told)?;
        let key = key.clone();
        let body = stream_of(response, range.end - range.start)
            .map(move |chunk| chunk.map_err(|error| error.with_op("get").with_key(&key)))
            .boxed();
        Ok(Object { meta, range, body })
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        let told = |error: Error| error.with_op("head").with_key(key);
        if key.is_prefix() {
            return Err(told(Error::new(Kind::NotFound, "a prefix is no object")));
        }
        let call = Call::new(Method::GET, self.client.object(&self.client.full(key.as_str())))
            .query("projection", "noAcl")
            .query("fields", "name,size,updated,generation");
        match self.client.document(&call).await {
            Ok(document) => list::meta(&document).map_err(told),
            Err(trouble) => Err(told(self.client.missing(trouble.error).await)),
        }
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        if !prefix.is_prefix() {
            let error = Error::new(Kind::Invalid, "what is listed must end in a slash")
                .with_op("list")
                .with_key(prefix);
            return stream::iter([Err(error)]).boxed();
        }
        list::list(Arc::clone(&self.client), prefix.clone(), how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        delete::delete(&self.client, keys).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let told = |error: Error| error.with_op("copy").with_key(from);
        named(to).map_err(told)?;
        let source = self.head(from).await.map_err(told)?;
        let copied = copy::copy(&self.client, from, to, &source).await.map_err(told)?;
        if copied.size != source.size {
            return Err(told(Error::new(
                Kind::Corrupt,
                format!("{} of {} bytes were copied", copied.size, source.size),
            )));
        }
        Ok(copied)
    }
}

impl Gcs {
    /// An empty part of an object that must be there.
    async fn nothing(&self, key: &Key, how: Get) -> Result<Object> {
        let meta = match self.head(key).await {
            // A server may close the connection after a range it refused without
            // a word, and then this is the request that finds out.
            Err(error) if error.class() == Class::Transient => self.head(key).await?,
            told => told?,
        };
        how.check_version(meta.version.as_deref())?;
        let range = how.within(meta.size)?;
        if range.start < range.end {
            return Err(Error::new(Kind::Changed, "the object changed while it was opened"));
        }
        Ok(Object { meta, range, body: stream::empty().boxed() })
    }
}

fn named(key: &Key) -> Result<()> {
    if key.is_prefix() {
        return Err(Error::new(Kind::Invalid, "a prefix is no object"));
    }
    Ok(())
}

/// A read shows its time to the second.
fn meta(headers: &HeaderMap, size: u64) -> Result<Meta> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let time =
        text(LAST_MODIFIED.as_str()).and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    match time {
        Some(time) => Ok(Meta {
            size,
            modified: time.with_timezone(&Utc),
            version: text("x-goog-generation").map(str::to_owned),
        }),
        None => Err(Error::new(Kind::Corrupt, "the store answered without the object's time")),
    }
}
