//! Who we are: static keys, profile files, web identity, containers, instances
//! and assumed roles. Credentials are asked for per request and renewed before
//! they expire, also in the middle of an upload.

mod metadata;
mod profile;
mod sts;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::settings::Settings;

use crate::http::{Client, Options, Request, read};

/// The longest answer of a credential service.
const ANSWER: usize = 64 << 10;

/// An access key, and until when it is good.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key.
    pub key: String,
    /// The secret key.
    pub secret: String,
    /// The token of temporary credentials.
    pub token: Option<String>,
    /// When they end; `None` for those that do not.
    pub expires: Option<DateTime<Utc>>,
}

impl Credentials {
    /// Credentials that do not expire.
    pub fn new(key: &str, secret: &str, token: Option<&str>) -> Self {
        Self {
            key: key.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
            expires: None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where credentials come from.
#[async_trait]
pub(super) trait Provider: fmt::Debug + Send + Sync {
    /// Asks for credentials; `None` if this source does not exist here.
    async fn fetch(&self) -> Result<Option<Credentials>>;
    /// The name of the source, for messages.
    fn name(&self) -> &'static str;
}

/// The credentials of a store, renewed as needed.
#[derive(Debug)]
pub struct Source {
    providers: Vec<Box<dyn Provider>>,
    role: Option<sts::Role>,
    held: Mutex<Option<Held>>,
}

#[derive(Debug, Clone)]
struct Held {
    credentials: Arc<Credentials>,
    renew: Option<DateTime<Utc>>,
}

impl Source {
    /// What `settings` say.
    pub fn load(settings: &Settings, region: Option<&str>, ca_files: &[PathBuf]) -> Result<Self> {
        let text = |name: &str| settings.text(name).map(str::trim).filter(|text| !text.is_empty());
        let secret = |name| text(name).map(str::to_owned);
        let connect = |timeout| {
            Client::new(&Options { ca_files: ca_files.to_vec(), connect_timeout: timeout, idle: 1 })
        };
        let sts = sts::Service::new(
            connect(Duration::from_secs(5))?,
            text("AWS_ENDPOINT_URL_STS"),
            region,
        )?;
        let metadata = metadata::Metadata::load(settings, connect(Duration::from_secs(1))?);
        let session = text("AWS_ROLE_SESSION_NAME").unwrap_or("walport").to_owned();
        let mut providers: Vec<Box<dyn Provider>> = Vec::new();
        let mut role = None;
        match (secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY")) {
            (Some(key), Some(secret)) => {
                providers.push(Box::new(Static(Credentials::new(
                    &key,
                    &secret,
                    text("AWS_SESSION_TOKEN"),
                ))));
            }
            (None, None) => {}
            (found, _) => {
                let missing =
                    if found.is_some() { "AWS_SECRET_ACCESS_KEY" } else { "AWS_ACCESS_KEY_ID" };
                return Err(Error::new(Kind::Config, format!("{missing} is not set")).with_hint(
                    "An access key and its secret belong together: set both, or neither.",
                ));
            }
        }
        match (text("AWS_WEB_IDENTITY_TOKEN_FILE"), text("AWS_ROLE_ARN")) {
            (Some(file), Some(arn)) => providers.push(Box::new(sts::WebIdentity {
                service: sts.clone(),
                role: arn.to_owned(),
                session: session.clone(),
                file: PathBuf::from(file),
            })),
            (None, Some(arn)) => {
                role = Some(sts::Role {
                    service: sts.clone(),
                    arn: arn.to_owned(),
                    session,
                    external_id: None,
                    seconds: None,
                });
            }
            (_, None) => {}
        }
        if providers.is_empty() {
            providers.push(Box::new(profile::Profile::load(settings, sts, metadata.clone())));
            providers.extend(metadata.providers());
        }
        Ok(Self { providers, role, held: Mutex::new(None) })
    }

    /// Credentials that are good for a while.
    pub async fn get(&self) -> Result<Arc<Credentials>> {
        let mut held = self.held.lock().await;
        if let Some(present) = &*held
            && present.renew.is_none_or(|renew| Utc::now() < renew)
        {
            return Ok(Arc::clone(&present.credentials));
        }
        match self.fetch().await {
            Ok(fetched) => Ok(held.insert(fetched).credentials.clone()),
            // A source that fails is no reason to throw away what is still good.
            Err(error) => match &*held {
                Some(present)
                    if present
                        .credentials
                        .expires
                        .is_some_and(|end| Utc::now() + Duration::from_secs(10) < end) =>
                {
                    log::warn!("cannot renew the credentials yet: {error}");
                    Ok(Arc::clone(&present.credentials))
                }
                _ => Err(error),
            },
        }
    }

    /// Other credentials than `refused`, or `None` if there are no others.
    pub async fn renew(&self, refused: &Arc<Credentials>) -> Result<Option<Arc<Credentials>>> {
        let mut held = self.held.lock().await;
        if let Some(present) = &*held {
            // Another request was faster.
            if present.credentials != *refused {
                return Ok(Some(Arc::clone(&present.credentials)));
            }
        }
        let fetched = self.fetch().await?;
        let fresh = Arc::clone(&fetched.credentials);
        *held = Some(fetched);
        Ok((fresh != *refused).then_some(fresh))
    }

    async fn fetch(&self) -> Result<Held> {
        let mut found = None;
        let mut tried = Vec::new();
        for provider in &self.providers {
            tried.push(provider.name());
            if let Some(credentials) = provider.fetch().await? {
                found = Some(credentials);
                break;
            }
        }
        let Some(mut credentials) = found else {
            return Err(Error::new(Kind::Unauthenticated, format!("no credentials were found (asked: {})", tried.join(", ")))
                .with_hint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this host or pod a role."));
        };
        if let Some(role) = &self.role {
            credentials = role.assume(&credentials).await?;
        }
        let now = Utc::now();
        let renew = credentials.expires.map(|end| {
            let left = (end - now).max(chrono::TimeDelta::zero());
            end - (left / 3).min(chrono::TimeDelta::minutes(5))
        });
        Ok(Held { credentials: Arc::new(credentials), renew })
    }
}

#[derive(Debug)]
struct Static(Credentials);

#[async_trait]
impl Provider for Static {
    async fn fetch(&self) -> Result<Option<Credentials>> {
        Ok(Some(self.0.clone()))
    }

    fn name(&self) -> &'static str {
        "settings"
    }
}

/// The status and the body of an answer, within `limit` of time.
async fn ask(
    client: &Client,
    request: Request,
    limit: Duration,
) -> Result<(http::StatusCode, Vec<u8>)> {
    let exchange = async {
        let response = client.send(request).await.map_err(|failure| failure.error)?;
        Ok((response.status(), read(response, ANSWER).await?))
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Unavailable, "the service that gives credentials does not answer"))
    })
}

/// Credentials as the metadata services write them, in JSON.
fn from_json(body: &[u8], source: &str) -> Result<Credentials> {
    let wrong = |why: &str| {
        Error::new(Kind::Unauthenticated, format!("{source} gave no credentials: {why}"))
    };
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| wrong("the answer is not JSON"))?;
    let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    if let Some(code) = text("Code").filter(|code| *code != "Success") {
        return Err(wrong(text("Message").unwrap_or(code)));
    }
    let (Some(key), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
        return Err(wrong("the answer holds no key"));
    };
    let expires = text("Expiration")
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map(|time| time.to_utc());
    Ok(Credentials { expires, ..Credentials::new(key, secret, text("Token")) })
}

async fn read_file(path: &std::path::Path) -> Result<String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        std::fs::read_to_string(&path)
            .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))
    });
    read.await
        .unwrap_or_else(|_| Err(Error::new(Kind::Internal, "reading a file of credentials failed")))
}
