//! External accounts: the token of another identity provider, from a file or an
//! address, is exchanged for one of Google's.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use http::Method;
use serde_json::Value;
use walport_engine::error::{Error, Kind, Result};

use super::{PLATFORM, field, wrong};
use crate::http::Client;
use crate::http::token::{Issuer, Token, ask, ask_text, form, request, token_of};

const HINT: &str = "Check the pool, the provider and the audience of the workload identity federation, and the subject token.";

/// Where the token of the other provider is.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    Address(String, Vec<(String, String)>),
}

/// An external account.
pub(super) struct External {
    http: Client,
    place: Place,
    /// The field of a JSON document that holds the token; the whole text without it.
    within: Option<String>,
    address: String,
    audience: String,
    kind: String,
    user_project: Option<String>,
}

impl External {
    pub(super) fn new(document: &Value, path: &Path, http: Client) -> Result<Self> {
        let source = &document["credential_source"];
        let place = match (source["file"].as_str(), source["url"].as_str()) {
            (Some(file), _) => Place::File(PathBuf::from(file)),
            (None, Some(address)) => {
                let headers = source["headers"].as_object().into_iter().flatten();
                let headers = headers.filter_map(|(name, value)| {
                    Some((name.to_ascii_lowercase(), value.as_str()?.to_owned()))
                });
                Place::Address(address.to_owned(), headers.collect())
            }
            (None, None) => {
                return Err(wrong(
                    format!(
                        "the external account in {} takes its token neither from a file nor from an address",
                        path.display()
                    ),
                    "Configure the workload identity pool with a file or a URL as its source; programs and AWS are not supported.",
                ));
            }
        };
        let format = &source["format"];
        let within = match format["type"].as_str() {
            Some("json") => Some(field(format, "subject_token_field_name", path)?),
            _ => None,
        };
        Ok(Self {
            http,
            place,
            within,
            address: document["token_url"]
                .as_str()
                .unwrap_or("https://sts.googleapis.com/v1/token")
                .to_owned(),
            audience: field(document, "audience", path)?,
            kind: field(document, "subject_token_type", path)?,
            user_project: document["workforce_pool_user_project"].as_str().map(str::to_owned),
        })
    }

    async fn subject(&self) -> Result<String> {
        let text = match &self.place {
            Place::File(file) => std::fs::read_to_string(file).map_err(|error| {
                Error::new(
                    Kind::Unauthenticated,
                    format!("cannot read the subject token in {}: {error}", file.display()),
                )
                .with_hint(HINT)
            })?,
            Place::Address(address, headers) => {
                let headers: Vec<_> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let request = request(Method::GET, address, &headers, String::new())?;
                ask_text(&self.http, "the provider of the subject token", HINT, request).await?
            }
        };
        let token = match &self.within {
            None => Some(text.trim().to_owned()),
            Some(name) => serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|value| Some(value[name].as_str()?.to_owned())),
        };
        token.filter(|token| !token.is_empty()).ok_or_else(|| {
            Error::new(
                Kind::Unauthenticated,
                "the subject token of the external account is not where the credentials say",
            )
            .with_hint(HINT)
        })
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("audience", &self.audience).finish_non_exhaustive()
    }
}

#[async_trait]
impl Issuer for External {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the security token service of Google";
        let subject = self.subject().await?;
        let options;
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", self.audience.as_str()),
            ("scope", PLATFORM),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &self.kind),
            ("subject_token", &subject),
        ];
        if let Some(project) = &self.user_project {
            options = serde_json::json!({"userProject": project}).to_string();
            fields.push(("options", &options));
        }
        token_of(&ask(&self.http, WHAT, HINT, form(&self.address, &fields)?).await?, WHAT)
    }
}
