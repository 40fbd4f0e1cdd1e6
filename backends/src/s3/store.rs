//! The store of S3: the contract, in requests.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, LAST_MODIFIED};
use http::{Method, StatusCode};
use walport_engine::error::{Error, Kind, Result};
use walport_engine::storage::{
    Body, Deleted, Entry, Get, Key, Limits, List, Meta, Object, Open, Put, Storage, Stored,
};

use super::client::{Call, Client, version};
use super::credentials::Source;
use super::list::Unfinished;
use super::settings::{Conditional, Config, MAX_OBJECT, MAX_PART, MAX_PARTS, MIN_PART};
use super::{copy, delete, list, upload};
use crate::http::stream_of;

/// One bucket, or a path in it.
#[derive(Debug)]
pub struct S3 {
    client: Arc<Client>,
    limits: Limits,
}

impl S3 {
    /// Opens the store at `open.target`. Nothing is asked of it, unless
    /// `S3_SKIP_VALIDATION` is false.
    pub async fn open(open: Open<'_>) -> Result<Self> {
        let config = Config::load(open.target, open.settings, open.budget, open.retries)?;
        let source = Source::load(open.settings, config.region.as_deref(), &config.ca_files)?;
        Self::new(config, source).await
    }

    /// A store of this configuration.
    pub async fn new(config: Config, source: Source) -> Result<Self> {
        let limits = Limits {
            create_if_absent: config.conditional == Conditional::Yes,
            attributes: true,
            min_part: MIN_PART,
            max_part: MAX_PART,
            max_parts: MAX_PARTS,
            max_object: MAX_OBJECT,
            delete_batch: config.delete_batch,
            max_key: Limits::unlimited().max_key - config.root.len().min(1000),
            ..Limits::unlimited()
        };
        let validate = config.validate;
        let store = Self { client: Arc::new(Client::new(config, source)?), limits };
        if validate {
            let probe = store.list(&Key::root(), List::default()).next().await;
            probe.transpose()?;
        }
        Ok(store)
    }

    /// Uploads below `prefix` that were begun and neither completed nor aborted,
    /// at most a thousand: what an operator is billed for without seeing it.
    pub async fn unfinished(&self, prefix: &Key) -> Result<Vec<Unfinished>> {
        list::unfinished(&self.client, prefix).await
    }
}

#[async_trait]
impl Storage for S3 {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.named(key, "put")?;
        upload::put(&self.client, key, body, how).await
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        self.named(key, "get")?;
        let told = |error: Error| error.with_op("get").with_key(key);
        // A range of nothing is no range to S3.
        if how.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return self.nothing(key, how).await.map_err(told);
        }
        let name = self.client.full(key.as_str());
        let mut call =
            self.client.with_customer_key(Call::new(Method::GET, Some(&name))).map_err(told)?;
        if let Some(range) = &how.range {
            let text = if range.end > MAX_OBJECT {
                format!("bytes={}-", range.start)
            } else {
                format!("bytes={}-{}", range.start, range.end - 1)
            };
            call = call.header("range", &text).map_err(told)?;
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
        let (meta, range) = opened(response.status(), response.headers(), &how).map_err(told)?;
        how.check_version(meta.version.as_deref()).map_err(told)?;
        let body = stream_of(response, range.end - range.start);
        let key = key.clone();
        let body = body
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
        let call =
            self.client.with_customer_key(Call::new(Method::HEAD, Some(&name))).map_err(told)?;
        let response = self.client.send(&call).await.map_err(|trouble| told(trouble.error))?;
        meta(response.headers(), None).map_err(told)
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
        self.named(to, "copy")?;
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

impl S3 {
    /// Refuses what cannot be the name of an object.
    fn named(&self, key: &Key, op: &'static str) -> Result<()> {
        let wrong = if key.is_prefix() {
            "a prefix is no object"
        } else if key.as_str().len() > self.limits.max_key {
            "the key is longer than 1024 bytes, the path of the store included"
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Invalid, wrong).with_op(op).with_key(key))
    }

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

/// The whole object and the part of it that the answer carries.
fn opened(
    status: StatusCode,
    headers: &HeaderMap,
    how: &Get,
) -> Result<(Meta, std::ops::Range<u64>)> {
    if status != StatusCode::PARTIAL_CONTENT {
        let meta = meta(headers, None)?;
        let range = how.within(meta.size)?;
        if range != (0..meta.size) {
            return Err(Error::new(Kind::Unsupported, "the store does not give ranges of objects"));
        }
        return Ok((meta, range));
    }
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = text.strip_prefix("bytes ").and_then(|rest| {
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((
            first.parse::<u64>().ok()?,
            last.parse::<u64>().ok()? + 1,
            total.parse::<u64>().ok()?,
        ))
    });
    let Some((first, end, total)) = parsed else {
        return Err(Error::new(
            Kind::Corrupt,
            format!("the store answered with the range {text:?}"),
        ));
    };
    let meta = meta(headers, Some(total))?;
    let range = how.within(total)?;
    if range != (first..end) {
        return Err(Error::new(
            Kind::Corrupt,
            format!("the store answered with the range {text:?} instead of {range:?}"),
        ));
    }
    Ok((meta, range))
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
