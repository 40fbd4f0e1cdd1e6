//! Requests to one container: addressed, authorised, sent, and judged.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use md5::{Digest as _, Md5};
use walport_engine::error::{Error, Kind, Result};

use super::credentials::Entra;
use super::errors::{answered, is_stale};
use super::settings::{Config, Login};
use super::sign;
use crate::http::token::Token;
use crate::http::trouble::{Tries, Trouble};
use crate::http::uri::{encode_path, pairs};
use crate::http::{Chunks, Client as Http, Options, Request, Response, read};

/// The longest document the store may answer with: a listing of 1000 long names.
const DOCUMENT: usize = 16 << 20;

/// A request to be.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub method: Method,
    /// The name below the container; `None` for the container itself.
    pub name: Option<&'a str>,
    pub query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Chunks,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, name: Option<&'a str>) -> Self {
        Self { method, name, query: Vec::new(), headers: HeaderMap::new(), body: Chunks::default() }
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
}

/// One container.
#[derive(Debug)]
pub struct Client {
    pub config: Config,
    http: Http,
    entra: Option<Entra>,
    pub tries: Tries,
}

impl Client {
    pub fn new(config: Config, entra: Option<Entra>) -> Result<Self> {
        let http = Http::new(&Options {
            ca_files: config.ca_files.clone(),
            idle: config.bounds.in_flight.min(16) + 1,
            ..Options::default()
        })?;
        let tries = Tries {
            store: "azure",
            more: config.retries,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(20),
        };
        Ok(Self { config, http, entra, tries })
    }

    /// The name of `key` in the container.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.config.root)
    }

    /// The address of a blob, for the store itself to read from.
    pub fn address_of(&self, name: &str) -> String {
        let config = &self.config;
        let address = format!(
            "{}://{}{}/{}/{}",
            config.scheme,
            config.authority,
            config.base,
            config.container,
            encode_path(name)
        );
        match &config.login {
            Login::Sas(sas) => format!("{address}?{sas}"),
            _ => address,
        }
    }

    /// Sends a request; any answer that is no success is a [`Trouble`].
    pub async fn send(&self, call: &Call<'_>) -> Result<Response, Trouble> {
        let Some(entra) = &self.entra else { return self.attempt(call, None).await };
        let token = entra.tokens.get().await.map_err(Trouble::before)?;
        match self.attempt(call, Some(&token)).await {
            // The token may have ended early.
            Err(trouble) if is_stale(&trouble) => {
                match entra.tokens.renew(&token).await.map_err(Trouble::before)? {
                    Some(fresh) => self.attempt(call, Some(&fresh)).await,
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
        Ok((headers, body))
    }

    async fn attempt(&self, call: &Call<'_>, token: Option<&Token>) -> Result<Response, Trouble> {
        let request = self.request(call, token).map_err(Trouble::before)?;
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(failure) => return Err(Trouble::unanswered(failure.error, failure.sent)),
        };
        let status = response.status();
        log::debug!(
            "azure {} {} {:?}: {status}",
            call.method,
            call.name.unwrap_or("/"),
            call.query
        );
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // An answer that breaks off still has its status.
        let body = read(response, 64 << 10).await.unwrap_or_default();
        Err(answered(status, &headers, &body))
    }

    fn request(&self, call: &Call<'_>, token: Option<&Token>) -> Result<Request> {
        let config = &self.config;
        let mut target = format!("{}/{}", config.base, config.container);
        if let Some(name) = call.name {
            target.push('/');
            target.push_str(&encode_path(name));
        }
        let mut query = pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        if let Login::Sas(sas) = &config.login {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(sas);
        }
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let uri = http::Uri::builder()
            .scheme(config.scheme.as_str())
            .authority(config.authority.as_str())
            .path_and_query(target)
            .build()
            .map_err(|error| {
                Error::new(Kind::Invalid, format!("the key cannot be put into an address: {error}"))
            })?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = call.method.clone();
        parts.uri = uri;
        parts.headers = call.headers.clone();
        let headers = &mut parts.headers;
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("walport/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert("x-ms-version", ascii(&config.version)?);
        headers.insert(
            "x-ms-date",
            ascii(&Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string())?,
        );
        if call.method == Method::PUT || call.body.size() > 0 {
            headers.insert(CONTENT_LENGTH, call.body.size().into());
        }
        if config.proves && call.body.size() > 0 {
            headers.insert("content-md5", ascii(&md5(&call.body))?);
        }
        match (&config.login, token) {
            (Login::Key(key), _) => {
                let value = sign::authorization(&config.account, key, &parts, &call.query);
                parts.headers.insert(AUTHORIZATION, secret(&value)?);
            }
            (_, Some(token)) => drop(
                parts.headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", token.text))?),
            ),
            (_, None) => {}
        }
        Ok(http::Request::from_parts(parts, call.body.clone()))
    }
}

fn ascii(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::new(Kind::Internal, "a header holds characters that none may hold"))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::new(Kind::Unauthenticated, "the token holds characters that no header may hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn md5(body: &Chunks) -> String {
    let mut hasher = Md5::new();
    body.iter().for_each(|chunk| hasher.update(chunk));
    STANDARD.encode(hasher.finalize())
}

/// The version of an object: its ETag without quotes.
pub fn version(headers: &HeaderMap) -> Option<String> {
    headers.get("etag").and_then(|value| value.to_str().ok()).map(unquoted)
}

/// An ETag without its quotes.
pub fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}
