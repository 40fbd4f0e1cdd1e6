//! Requests to one bucket: addressed, signed, sent, and judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::Utc;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use md5::{Digest as _, Md5};
use tokio::sync::{OnceCell, Semaphore};
use walport_engine::error::{Class, Error, Kind, Result};

use super::credentials::{Credentials, Source};
use super::errors::{Trouble, is_stale};
use super::settings::{Checksum, Config};
use super::sign::{Scope, UNSIGNED, encode_path, query, sha256, sign};
use crate::http::xml;
use crate::http::{Chunks, Client as Http, Options, Request, Response, read};

/// The longest document the store may answer with: a listing of 1000 long keys.
const DOCUMENT: usize = 16 << 20;
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(20);

/// A request to be.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub method: Method,
    /// The key below the bucket; `None` for the bucket itself.
    pub key: Option<&'a str>,
    pub query: Vec<(&'a str, &'a str)>,
    pub headers: HeaderMap,
    pub body: Chunks,
    /// What proves the body to the store.
    pub checksum: Checksum,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, key: Option<&'a str>) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Chunks::default(),
            checksum: Checksum::Sha256,
        }
    }

    pub fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    /// Adds a header; a value that no header may hold is an error of the caller's settings.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            Error::new(
                Kind::Invalid,
                format!("the value of {name} holds characters that no header may hold"),
            )
        })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// The body, and how it is proved.
    pub fn body(mut self, body: Chunks, checksum: Checksum) -> Self {
        self.body = body;
        self.checksum = checksum;
        self
    }
}

/// One bucket.
#[derive(Debug)]
pub struct Client {
    pub config: Config,
    http: Http,
    source: Source,
    region: OnceCell<String>,
    /// The bucket is known to exist.
    seen: AtomicBool,
    /// One permit per body on its way to the store.
    pub slots: Semaphore,
}

impl Client {
    pub fn new(config: Config, source: Source) -> Result<Self> {
        let http = Http::new(&Options {
            ca_files: config.ca_files.clone(),
            idle: config.in_flight + 1,
            ..Options::default()
        })?;
        Ok(Self {
            region: OnceCell::new_with(config.region.clone()),
            slots: Semaphore::new(config.in_flight),
            config,
            http,
            source,
            seen: AtomicBool::new(false),
        })
    }

    /// The name of `key` in the bucket.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.config.root)
    }

    /// Sends a request; any answer that is no success is a [`Trouble`].
    pub async fn send(&self, call: &Call<'_>) -> Result<Response, Trouble> {
        let credentials = self.source.get().await.map_err(Trouble::before)?;
        match self.attempt(call, &credentials).await {
            // The keys may have been renewed behind our back, or ended too early.
            Err(trouble) if is_stale(&trouble.code) => {
                match self.source.renew(&credentials).await.map_err(Trouble::before)? {
                    Some(fresh) => self.attempt(call, &fresh).await,
                    None => Err(trouble),
                }
            }
            other => other,
        }
    }

    /// Sends a request and reads the document it is answered with.
    pub async fn document(&self, call: &Call<'_>) -> Result<(HeaderMap, Vec<u8>), Trouble> {
        let response = self.send(call).await?;
        let headers = response.headers().clone();
        let body =
            read(response, DOCUMENT).await.map_err(|error| Trouble::unanswered(error, true))?;
        // Long operations begin their answer before they know how they end.
        if xml::root(&body).as_deref() == Some("Error") {
            return Err(Trouble::late(&headers, &body));
        }
        Ok((headers, body))
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        credentials: &Arc<Credentials>,
    ) -> Result<Response, Trouble> {
        let region = self.region().await.map_err(Trouble::before)?;
        let request = self.request(call, region, credentials).map_err(Trouble::before)?;
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(failure) => {
                let (sent, trouble) =
                    (failure.sent, Trouble::unanswered(failure.error, failure.sent));
                return Err(if sent && call.body.size() > 0 {
                    self.deeper(trouble).await
                } else {
                    trouble
                });
            }
        };
        let status = response.status();
        log::debug!("s3 {} {} {:?}: {status}", call.method, call.key.unwrap_or("/"), call.query);
        if status.is_success() {
            self.seen.store(true, Ordering::Relaxed);
            return Ok(response);
        }
        let headers = response.headers().clone();
        // An answer that breaks off still has its status.
        let body = read(response, 64 << 10).await.unwrap_or_default();
        let trouble = Trouble::answered(status, &headers, &body);
        if status == StatusCode::NOT_FOUND && body.is_empty() {
            return Err(self.deeper(trouble).await);
        }
        Err(trouble)
    }

    fn request(&self, call: &Call<'_>, region: &str, credentials: &Credentials) -> Result<Request> {
        let (scheme, authority, mut path) = self.config.address(region);
        if let Some(key) = call.key {
            path.push('/');
            path.push_str(&encode_path(key));
        } else if path.is_empty() {
            path.push('/');
        }
        let query = query(&call.query);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let uri = http::Uri::builder()
            .scheme(scheme.as_str())
            .authority(authority)
            .path_and_query(target)
            .build()
            .map_err(|error| {
                Error::new(Kind::Invalid, format!("the key cannot be put into an address: {error}"))
            })?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = call.method.clone();
        parts.uri = uri;
        parts.headers = call.headers.clone();
        parts.headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("walport/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in &self.config.headers {
            parts.headers.insert(name.clone(), value.clone());
        }
        let chunks = || call.body.iter().map(|chunk| -> &[u8] { chunk });
        let payload = match call.checksum {
            Checksum::Sha256 => sha256(chunks()),
            Checksum::None => UNSIGNED.to_owned(),
            Checksum::Crc32 => {
                parts.headers.insert("x-amz-checksum-crc32", ascii(&crc32(&call.body))?);
                UNSIGNED.to_owned()
            }
            Checksum::Md5 => {
                parts.headers.insert("content-md5", ascii(&md5(&call.body))?);
                UNSIGNED.to_owned()
            }
        };
        sign(&mut parts, credentials, &payload, Scope { region, service: "s3", now: Utc::now() })?;
        Ok(http::Request::from_parts(parts, call.body.clone()))
    }

    /// The region of the bucket; AWS is asked for it once.
    async fn region(&self) -> Result<&str> {
        self.region.get_or_try_init(|| self.discover()).await.map(String::as_str)
    }

    /// Any region names the bucket's own in a header, even to strangers; who is
    /// not told so asks with GetBucketLocation.
    async fn discover(&self) -> Result<String> {
        const FIRST: &str = "us-east-1";
        let (scheme, host, path) = self.config.address(FIRST);
        let path = if path.is_empty() { "/" } else { &path };
        let uri = format!("{scheme}://{host}{path}");
        let request = http::Request::head(uri).body(Chunks::default());
        let request = request.map_err(|_| {
            Error::new(Kind::Config, "the bucket's name cannot be part of an address")
        })?;
        let response = self.http.send(request).await.map_err(|failure| failure.error)?;
        let told =
            response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        if let Some(region) = told {
            return Ok(region.to_owned());
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Trouble::answered(
                StatusCode::NOT_FOUND,
                &HeaderMap::new(),
                b"<Error><Code>NoSuchBucket</Code></Error>",
            )
            .error);
        }
        let credentials = self.source.get().await?;
        let call = Call::new(Method::GET, None).query("location", "");
        let response = self
            .http
            .send(self.request(&call, FIRST, &credentials)?)
            .await
            .map_err(|failure| failure.error)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, 64 << 10).await?;
        if !status.is_success() {
            return Err(Trouble::answered(status, &headers, &body)
                .error
                .context("cannot find the region of the bucket"));
        }
        match xml::find(&body, "LocationConstraint").as_deref() {
            None | Some("") => Ok(FIRST.to_owned()),
            Some("EU") => Ok("eu-west-1".to_owned()),
            Some(region) => Ok(region.to_owned()),
        }
    }

    /// What is wrong with the bucket or with us, if anything is. Asked where an
    /// answer leaves that open: a HEAD does not say whether the object is
    /// missing or the bucket, and to take the second for the first would end a
    /// recovery too early; and some servers refuse a body by hanging up on it.
    async fn deeper(&self, trouble: Trouble) -> Trouble {
        if self.seen.load(Ordering::Relaxed) {
            return trouble;
        }
        let call = Call::new(Method::GET, None)
            .query("list-type", "2")
            .query("max-keys", "1")
            .query("prefix", &self.config.root);
        match Box::pin(self.send(&call)).await {
            Err(found) if matches!(found.error.kind(), Kind::Config | Kind::Unauthenticated) => {
                found
            }
            _ => trouble,
        }
    }

    /// Adds the headers of a customer key, where there is one.
    pub fn with_customer_key<'a>(&self, call: Call<'a>) -> Result<Call<'a>> {
        let Some(key) = &self.config.customer_key else { return Ok(call) };
        call.header("x-amz-server-side-encryption-customer-algorithm", &key.algorithm)?
            .header("x-amz-server-side-encryption-customer-key", &key.key)?
            .header("x-amz-server-side-encryption-customer-key-md5", &key.md5)
    }

    /// Runs `step` again after a passing error, as often as the settings allow.
    /// `again` says whether a step that may have taken effect can be repeated.
    pub async fn retry<T, F>(&self, again: bool, mut step: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut tries = 0;
        loop {
            let trouble = match step().await {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            let class = trouble.error.class();
            if tries >= self.config.retries
                || class == Class::Never
                || (trouble.ambiguous && !again)
            {
                return Err(trouble);
            }
            let wait = self.wait(tries, &trouble.error);
            log::warn!("s3: {}; trying again in {} ms", trouble.error, wait.as_millis());
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// Exponential, with half of it random; as long as the store asks for, at least.
    fn wait(&self, tries: u32, error: &Error) -> Duration {
        let (least, most) = self.config.throttle;
        let (first, longest) = if error.class() == Class::Throttled {
            (least, most)
        } else {
            (Duration::from_millis(100), LONGEST)
        };
        let full = first.saturating_mul(1 << tries.min(16)).min(longest);
        let wait = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        wait.max(error.retry_after().unwrap_or_default().min(most.max(LONGEST)))
    }
}

fn ascii(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::new(Kind::Internal, "a checksum is no header"))
}

/// The CRC-32 of a body as S3 writes it.
pub fn crc32(body: &Chunks) -> String {
    let mut hasher = crc32fast::Hasher::new();
    body.iter().for_each(|chunk| hasher.update(chunk));
    STANDARD.encode(hasher.finalize().to_be_bytes())
}

/// The MD5 of a body as S3 writes it.
pub fn md5(body: &Chunks) -> String {
    let mut hasher = Md5::new();
    body.iter().for_each(|chunk| hasher.update(chunk));
    STANDARD.encode(hasher.finalize())
}

/// A document that is sent.
pub fn xml_call(call: Call<'_>, document: String, checksum: Checksum) -> Call<'_> {
    let mut call = call.body(Chunks::from(Bytes::from(document)), checksum);
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    call
}

/// The version of an object: its ETag without quotes.
pub fn version(headers: &HeaderMap) -> Option<String> {
    headers.get("etag").and_then(|value| value.to_str().ok()).map(unquoted)
}

/// An ETag without its quotes.
pub fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}
