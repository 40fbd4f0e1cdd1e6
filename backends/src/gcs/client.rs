//! Requests to one bucket: addressed, authorised, sent, and judged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, StatusCode};
use serde_json::Value;
use walport_engine::error::{Class, Error, Kind, Result};

use super::errors::answered;
use super::settings::Config;
use crate::http::token::{Token, Tokens};
use crate::http::trouble::{Tries, Trouble};
use crate::http::uri::{encode, pairs};
use crate::http::{Chunks, Client as Http, Options, Request, Response, read};

/// The longest document the store may answer with: a listing of 1000 long names.
const DOCUMENT: usize = 16 << 20;

/// A request to be.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// The whole address, without the query.
    pub address: String,
    pub query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Chunks,
}

impl Call {
    pub fn new(method: Method, address: impl Into<String>) -> Self {
        Self {
            method,
            address: address.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Chunks::default(),
        }
    }

    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
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

    pub fn body(mut self, body: Chunks) -> Self {
        self.body = body;
        self
    }

    /// A JSON document as the body.
    pub fn json(mut self, document: &Value) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        self.body = Chunks::from(document.to_string());
        self
    }
}

/// One bucket.
#[derive(Debug)]
pub struct Client {
    pub config: Config,
    http: Http,
    tokens: Option<Tokens>,
    pub tries: Tries,
    /// The bucket is known to exist.
    seen: AtomicBool,
}

impl Client {
    pub fn new(config: Config, tokens: Option<Tokens>) -> Result<Self> {
        let http = Http::new(&Options {
            ca_files: config.ca_files.clone(),
            idle: 8,
            ..Options::default()
        })?;
        let tries = Tries {
            store: "gcs",
            more: config.retries,
            first: Duration::from_millis(128),
            longest: Duration::from_secs(30),
        };
        Ok(Self { config, http, tokens, tries, seen: AtomicBool::new(false) })
    }

    /// The name of `key` in the bucket.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.config.root)
    }

    /// The address of the objects of the bucket.
    pub fn objects(&self) -> String {
        format!("{}/storage/v1/b/{}/o", self.config.endpoint, encode(&self.config.bucket))
    }

    /// The address of one object.
    pub fn object(&self, name: &str) -> String {
        format!("{}/{}", self.objects(), encode(name))
    }

    /// The address to which objects are sent.
    pub fn uploads(&self) -> String {
        format!("{}/upload/storage/v1/b/{}/o", self.config.endpoint, encode(&self.config.bucket))
    }

    /// Adds the headers of a customer key, where there is one.
    pub fn with_customer_key(&self, call: Call) -> Result<Call> {
        let Some(key) = &self.config.customer_key else { return Ok(call) };
        call.header("x-goog-encryption-algorithm", "AES256")?
            .header("x-goog-encryption-key", &key.key)?
            .header("x-goog-encryption-key-sha256", &key.sha256)
    }

    /// Sends a request; any answer but a success, or `also`, is a [`Trouble`].
    pub async fn send_or(
        &self,
        call: &Call,
        also: Option<StatusCode>,
    ) -> Result<Response, Trouble> {
        let Some(tokens) = &self.tokens else { return self.attempt(call, None, also).await };
        let token = tokens.get().await.map_err(Trouble::before)?;
        match self.attempt(call, Some(&token), also).await {
            // The token may have ended early.
            Err(trouble) if trouble.is(StatusCode::UNAUTHORIZED) => {
                match tokens.renew(&token).await.map_err(Trouble::before)? {
                    Some(fresh) => self.attempt(call, Some(&fresh), also).await,
                    None => Err(trouble),
                }
            }
            other => other,
        }
    }

    /// Sends a request; any answer that is no success is a [`Trouble`].
    pub async fn send(&self, call: &Call) -> Result<Response, Trouble> {
        self.send_or(call, None).await
    }

    /// Sends a request and reads the JSON document it is answered with; none is
    /// `null`.
    pub async fn document(&self, call: &Call) -> Result<Value, Trouble> {
        json(self.send(call).await?).await
    }

    async fn attempt(
        &self,
        call: &Call,
        token: Option<&Token>,
        also: Option<StatusCode>,
    ) -> Result<Response, Trouble> {
        let request = self.request(call, token).map_err(Trouble::before)?;
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(failure) => return Err(Trouble::unanswered(failure.error, failure.sent)),
        };
        let status = response.status();
        log::debug!("gcs {} {}: {status}", call.method, call.address);
        if status.is_success() || Some(status) == also {
            self.seen.store(true, Ordering::Relaxed);
            return Ok(response);
        }
        let headers = response.headers().clone();
        // An answer that breaks off still has its status.
        let body = read(response, 64 << 10).await.unwrap_or_default();
        Err(answered(status, &headers, &body))
    }

    fn request(&self, call: &Call, token: Option<&Token>) -> Result<Request> {
        let query = pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        let address = match (query.is_empty(), call.address.contains('?')) {
            (true, _) => call.address.clone(),
            (false, false) => format!("{}?{query}", call.address),
            (false, true) => format!("{}&{query}", call.address),
        };
        let uri: http::Uri = address.parse().map_err(|error| {
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
        if matches!(call.method, Method::PUT | Method::POST) {
            parts.headers.insert(CONTENT_LENGTH, call.body.size().into());
        }
        let unfit = |_| {
            Error::new(
                Kind::Config,
                "a setting or a token holds characters that no header may hold",
            )
        };
        if let Some(project) = &self.config.user_project {
            parts
                .headers
                .insert("x-goog-user-project", HeaderValue::from_str(project).map_err(unfit)?);
        }
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.text)).map_err(unfit)?;
            value.set_sensitive(true);
            parts.headers.insert(AUTHORIZATION, value);
        }
        Ok(http::Request::from_parts(parts, call.body.clone()))
    }

    /// An answer to a read does not always say whether the object is missing or
    /// the bucket; to take the second for the first would end a recovery too early.
    pub async fn missing(&self, error: Error) -> Error {
        if error.kind() != Kind::NotFound || self.seen.load(Ordering::Relaxed) {
            return error;
        }
        let call = Call::new(Method::GET, self.objects())
            .query("maxResults", "1")
            .query("prefix", self.config.root.clone());
        match self.document(&call).await {
            Err(trouble) if matches!(trouble.error.kind(), Kind::Config | Kind::NotFound) => {
                let meaning = super::errors::no_bucket();
                let told =
                    Error::new(meaning.kind, trouble.error.message()).with_class(Class::Never);
                match meaning.hint {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            _ => error,
        }
    }
}

/// The JSON document of an answer; `null` where there is none.
pub async fn json(response: Response) -> Result<Value, Trouble> {
    let body = read(response, DOCUMENT).await.map_err(|error| Trouble::unanswered(error, true))?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|_| {
        Trouble::before(Error::new(Kind::Corrupt, "the store answered with what is no JSON document")
            .with_hint("Check WALPORT_GCS_ENDPOINT: what answers there may be no Google Cloud Storage."))
    })
}

/// A number that the API writes as text.
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
