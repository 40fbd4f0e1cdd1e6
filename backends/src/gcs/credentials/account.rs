//! Accounts with a secret in a file: service accounts and users.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use walport_engine::error::{Error, Kind, Result};

use super::{PLATFORM, SCOPE, field, wrong};
use crate::http::Client;
use crate::http::token::{Issuer, Token, ask, form, token_of};

/// Where tokens come from unless the file says otherwise.
const SERVICE: &str = "https://oauth2.googleapis.com/token";
const WHAT: &str = "the token service of Google";

/// A service account: what it signs is exchanged for a token.
pub(super) struct Service {
    http: Client,
    email: String,
    key_id: Option<String>,
    key: Arc<RsaKeyPair>,
    address: String,
}

impl Service {
    pub(super) fn new(document: &Value, path: &Path, http: Client) -> Result<Self> {
        let pem = field(document, "private_key", path)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .ok()
            .and_then(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok())
            .ok_or_else(|| {
                wrong(
                    format!("the private key in {} cannot be used", path.display()),
                    "Create a new key of the service account, in JSON.",
                )
            })?;
        Ok(Self {
            http,
            email: field(document, "client_email", path)?,
            key_id: document["private_key_id"].as_str().map(str::to_owned),
            key: Arc::new(key),
            address: document["token_uri"].as_str().unwrap_or(SERVICE).to_owned(),
        })
    }

    /// What says that we are the account, signed.
    fn assertion(&self) -> Result<String> {
        let now = Utc::now().timestamp();
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            head["kid"] = json!(id);
        }
        let scope = format!("{SCOPE} {PLATFORM}");
        let claims = json!({"iss": self.email, "scope": scope, "aud": self.address, "iat": now, "exp": now + 3600});
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| {
                Error::new(Kind::Internal, "the key of the service account does not sign")
            })?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("email", &self.email).finish_non_exhaustive()
    }
}

#[async_trait]
impl Issuer for Service {
    async fn issue(&self) -> Result<Token> {
        let hint = "Check that the key of the service account was not deleted, and the clock of this host.";
        let assertion = self.assertion()?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.as_str()),
        ];
        token_of(&ask(&self.http, WHAT, hint, form(&self.address, &fields)?).await?, WHAT)
    }
}

/// A user who logged in with gcloud.
pub(super) struct User {
    http: Client,
    id: String,
    secret: String,
    refresh: String,
    address: String,
}

impl User {
    pub(super) fn new(document: &Value, path: &Path, http: Client) -> Result<Self> {
        Ok(Self {
            http,
            id: field(document, "client_id", path)?,
            secret: field(document, "client_secret", path)?,
            refresh: field(document, "refresh_token", path)?,
            address: document["token_uri"].as_str().unwrap_or(SERVICE).to_owned(),
        })
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Issuer for User {
    async fn issue(&self) -> Result<Token> {
        let hint = "Log in again: gcloud auth application-default login.";
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", self.id.as_str()),
            ("client_secret", &self.secret),
            ("refresh_token", &self.refresh),
        ];
        token_of(&ask(&self.http, WHAT, hint, form(&self.address, &fields)?).await?, WHAT)
    }
}
