//! The store of Azure: the contract, in requests.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::{CONTENT_LENGTH, HeaderMap, LAST_MODIFIED};
use http::{Method, StatusCode};
use walport_engine::error::{Error, Kind, Result};
use walport_engine::memory::CHUNK;
use walport_engine::storage::{
    Body, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Open, Put, Storage, Stored,
};

use super::client::{Call, Client, version};
use super::credentials::Entra;
use super::settings::{Config, Login, MAX_BLOCK, MAX_BLOCKS};
use super::{copy, delete, list, upload};
use crate::http::{opened, stream_of};

/// One container, or a path in it.
#[derive(Debug)]
pub struct Azure {
    client: Arc<Client>,
    limits: Limits,
}

impl Azure {
    /// Opens the store at `open.target`. Nothing is asked of it.
    pub async fn open(open: Open<'_>) -> Result<Self> {
        let config = Config::load(open.target, open.settings, open.budget, open.retries)?;
        let entra = match config.login {
            Login::Entra => Some(Entra::load(open.settings)?),
            _ => None,
        };
        let limits = Limits {
            attributes: true,
            min_part: CHUNK as u64,
            max_part: MAX_BLOCK,
            max_parts: MAX_BLOCKS,
            max_object: MAX_BLOCK * MAX_BLOCKS,
            max_key: Limits::unlimited().max_key - config.root.len().min(1000),
            ..Limits::unlimited()
        };
        Ok(Self { client: Arc::new(Client::new(config, entra)?), limits })
    }
}

#[async_trait]
impl Storage for Azure {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        let told = |error: Error| error.with_op("put").with_key(key);
        named(key).map_err(told)?;
        upload::put(&self.client, key, body, how).await.map_err(told)
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let told = |error: Error| error.with_op("get").with_key(key);
        named(key).map_err(told)?;
        // A range of nothing is no range to the store.
        if how.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return self.nothing(key, how).await.map_err(told);
        }
        let name = self.client.full(key.as_str());
        let mut call = Call::new(Method::GET, Some(&name));
        if let Some(range) = &how.range {
            call = call
                .header("x-ms-range", &format!("bytes={}-{}", range.start, range.end - 1))
                .map_err(told)?;
        }
        if let Some(version) = &how.version {
            call = call.header("if-match", &format!("\"{version}\"")).map_err(told)?;
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
            Err(trouble) => return Err(told(trouble.error)),
        };
        let (range, total) = opened(response.status(), response.headers(), &how).map_err(told)?;
        let meta = meta(response.headers(), Some(total)).map_err(told)?;
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
        let name = self.client.full(key.as_str());
        let response = self
            .client
            .send(&Call::new(Method::HEAD, Some(&name)))
            .await
            .map_err(|trouble| told(trouble.error))?;
        let headers = response.headers();
        // An account with a hierarchy of names shows its folders as blobs.
        if headers
            .get("x-ms-meta-hdi_isfolder")
            .is_some_and(|flag| flag.as_bytes().eq_ignore_ascii_case(b"true"))
        {
            return Err(told(Error::new(Kind::NotFound, "a folder is no object")));
        }
        meta(headers, None).map_err(told)
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
        copy::copy(&self.client, from, to, &source).await.map_err(told)?;
        let copied = self.head(to).await.map_err(told)?;
        if copied.size != source.size {
            return Err(told(Error::new(
                Kind::Corrupt,
                format!("{} of {} bytes were copied", copied.size, source.size),
            )));
        }
        Ok(Stored { size: copied.size, version: copied.version })
    }
}

impl Azure {
    /// An empty part of an object that must be there.
    async fn nothing(&self, key: &Key, how: Get) -> Result<Object> {
        let meta = self.head(key).await?;
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

fn meta(headers: &HeaderMap, size: Option<u64>) -> Result<Meta> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let size = size.or_else(|| text(CONTENT_LENGTH)?.parse().ok());
    let modified = text(LAST_MODIFIED)
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok())
        .map(|time| time.with_timezone(&Utc));
    match (size, modified) {
        (Some(size), Some(modified)) => Ok(Meta { size, modified, version: version(headers) }),
        _ => Err(Error::new(Kind::Corrupt, "the store answered without the object's size or time")),
    }
}
