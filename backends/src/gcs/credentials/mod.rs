//! Who we are to Google: a service account, a user, an external account, or the
//! account of the host. Tokens are renewed before they end, also in the middle
//! of an upload.

mod account;
mod external;
mod metadata;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use http::Method;
use serde_json::{Value, json};
use walport_engine::error::{Error, Kind, Result};
use walport_engine::settings::Settings;

use super::settings::{trimmed, wrong};
use crate::http::token::{Issuer, Token, Tokens, ask, request};
use crate::http::{Client, Options};

/// What tokens are for: objects, and nothing else of the project.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// What tokens are for that are only exchanged for others.
const PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The tokens that `settings` lead to; `None` sends none.
pub fn load(settings: &Settings) -> Result<Option<Tokens>> {
    let text = |name| trimmed(settings, name);
    let named = text("GOOGLE_APPLICATION_CREDENTIALS");
    let emulated = settings
        .entry("WALPORT_GCS_ENDPOINT")
        .is_some_and(|(_, source)| source.to_string().contains("STORAGE_EMULATOR_HOST"));
    let anonymous = if settings.is_set("WALPORT_GCS_ANONYMOUS") {
        settings.flag("WALPORT_GCS_ANONYMOUS")
    } else {
        emulated && named.is_none()
    };
    if anonymous {
        return Ok(None);
    }
    let ca_files: Vec<PathBuf> =
        text("WALPORT_GCS_CA_FILE").map(PathBuf::from).into_iter().collect();
    let connect = |seconds| {
        Client::new(&Options {
            ca_files: ca_files.clone(),
            connect_timeout: Duration::from_secs(seconds),
            idle: 1,
        })
    };
    let file = named
        .map(PathBuf::from)
        .or_else(|| well_known(text("CLOUDSDK_CONFIG")).filter(|path| path.is_file()));
    let issuer: Box<dyn Issuer> = match file {
        Some(path) => of_document(&read(&path)?, &path, &connect(10)?)?,
        None => Box::new(metadata::Host {
            http: connect(2)?,
            host: text("GCE_METADATA_HOST").unwrap_or_default().to_owned(),
        }),
    };
    Ok(Some(Tokens::new(issuer)))
}

fn well_known(folder: Option<&str>) -> Option<PathBuf> {
    const NAME: &str = "application_default_credentials.json";
    match folder {
        Some(folder) => Some(Path::new(folder).join(NAME)),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".config/gcloud").join(NAME)),
    }
}

fn read(path: &Path) -> Result<Value> {
    let hint =
        "Set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials that this user may read.";
    let text = std::fs::read(path).map_err(|error| {
        wrong(format!("cannot read the credentials in {}: {error}", path.display()), hint)
    })?;
    serde_json::from_slice(&text).map_err(|_| {
        wrong(format!("the credentials in {} are no JSON document", path.display()), hint)
    })
}

/// The issuer that a document of credentials describes.
fn of_document(document: &Value, path: &Path, http: &Client) -> Result<Box<dyn Issuer>> {
    let issuer: Box<dyn Issuer> = match document["type"].as_str() {
        Some("service_account") => Box::new(account::Service::new(document, path, http.clone())?),
        Some("authorized_user") => Box::new(account::User::new(document, path, http.clone())?),
        Some("external_account") => {
            let exchange = Box::new(external::External::new(document, path, http.clone())?);
            match document["service_account_impersonation_url"].as_str() {
                Some(address) => {
                    Box::new(Impersonation::new(exchange, address, document, http.clone()))
                }
                None => exchange,
            }
        }
        Some("impersonated_service_account") => {
            let source = of_document(&document["source_credentials"], path, http)?;
            let address = field(document, "service_account_impersonation_url", path)?;
            Box::new(Impersonation::new(source, &address, document, http.clone()))
        }
        other => {
            return Err(wrong(
                format!(
                    "the credentials in {} are of the type {}, which is not known",
                    path.display(),
                    other.unwrap_or("(none)")
                ),
                "Use the key of a service account, a file of gcloud, or a configuration of workload identity federation.",
            ));
        }
    };
    Ok(issuer)
}

/// A text that a document of credentials must have.
fn field(document: &Value, name: &str, path: &Path) -> Result<String> {
    document[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| {
        wrong(
            format!("the credentials in {} lack {name}", path.display()),
            "Create the file again; nothing in it may be left out.",
        )
    })
}

/// Another service account, as which we may act.
#[derive(Debug)]
struct Impersonation {
    source: Tokens,
    address: String,
    seconds: u64,
    http: Client,
}

impl Impersonation {
    fn new(source: Box<dyn Issuer>, address: &str, document: &Value, http: Client) -> Self {
        let seconds = document["service_account_impersonation"]["token_lifetime_seconds"]
            .as_u64()
            .unwrap_or(3600);
        Self { source: Tokens::new(source), address: address.to_owned(), seconds, http }
    }
}

#[async_trait]
impl Issuer for Impersonation {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the service that lends service accounts";
        const HINT: &str = "Give the identity roles/iam.serviceAccountTokenCreator (or workloadIdentityUser) on the service account.";
        let own = format!("Bearer {}", self.source.get().await?.text);
        let body = json!({"scope": [SCOPE], "lifetime": format!("{}s", self.seconds)}).to_string();
        let headers = [("authorization", own.as_str()), ("content-type", "application/json")];
        let answer =
            ask(&self.http, WHAT, HINT, request(Method::POST, &self.address, &headers, body)?)
                .await?;
        let end =
            answer["expireTime"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        match (answer["accessToken"].as_str(), end) {
            (Some(text), Some(end)) => Ok(Token { text: text.to_owned(), expires: end.to_utc() }),
            _ => Err(Error::new(Kind::Unauthenticated, format!("{WHAT} answered without a token"))
                .with_hint(HINT)),
        }
    }
}
