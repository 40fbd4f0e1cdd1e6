//! Managed identities: the host, or the service that runs us, gives out tokens.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::Method;
use serde_json::Value;
use walport_engine::error::Result;

use super::RESOURCE;
use crate::http::Client;
use crate::http::token::{Issuer, Token, ask, request, token_of};
use crate::http::uri::pairs;

/// The instance metadata service of a virtual machine or a node.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) http: Client,
    pub(super) host: String,
    pub(super) client: Option<String>,
}

#[async_trait]
impl Issuer for Host {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the managed identity of this host";
        const HINT: &str = "Set AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN, or give this host a managed identity, with AZURE_CLIENT_ID if it has several.";
        let address = address(
            &format!("{}/metadata/identity/oauth2/token", self.host),
            "2018-02-01",
            self.client.as_deref(),
        );
        let request = request(Method::GET, &address, &[("metadata", "true")], String::new())?;
        // A host outside of Azure does not even connect.
        let answer =
            ask(&self.http, WHAT, HINT, request).await.map_err(|error| error.with_hint(HINT))?;
        token(&answer, WHAT)
    }
}

/// The identity service of App Service, Functions and Container Apps.
pub(super) struct Service {
    pub(super) http: Client,
    pub(super) address: String,
    pub(super) header: Option<String>,
    pub(super) client: Option<String>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Issuer for Service {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the identity service at IDENTITY_ENDPOINT";
        const HINT: &str =
            "Check that the app has a managed identity, and AZURE_CLIENT_ID if it has several.";
        let address = address(&self.address, "2019-08-01", self.client.as_deref());
        let header = self.header.as_deref().unwrap_or_default();
        let request =
            request(Method::GET, &address, &[("x-identity-header", header)], String::new())?;
        token(&ask(&self.http, WHAT, HINT, request).await?, WHAT)
    }
}

fn address(base: &str, version: &str, client: Option<&str>) -> String {
    let mut query = vec![("api-version", version), ("resource", RESOURCE)];
    query.extend(client.map(|client| ("client_id", client)));
    format!("{base}?{}", pairs(query))
}

/// These services say when a token ends as seconds since 1970, in text.
fn token(answer: &Value, what: &str) -> Result<Token> {
    let mut token = token_of(answer, what)?;
    let end = &answer["expires_on"];
    let seconds = end.as_i64().or_else(|| end.as_str()?.parse().ok());
    if let Some(end) = seconds.and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0)) {
        token.expires = end;
    }
    Ok(token)
}
