//! Applications: a secret or the token of a workload is exchanged for a token.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use walport_engine::error::{Error, Kind, Result};

use super::RESOURCE;
use crate::http::Client;
use crate::http::token::{Issuer, Token, ask, form, token_of};

/// What shows that we are the application.
pub(super) enum Proof {
    Secret(String),
    /// A file that is written anew from time to time.
    File(PathBuf),
}

impl Proof {
    pub(super) fn setting(&self) -> &'static str {
        match self {
            Proof::Secret(_) => "AZURE_CLIENT_SECRET",
            Proof::File(_) => "AZURE_FEDERATED_TOKEN_FILE",
        }
    }
}

/// An application of a tenant.
pub(super) struct Principal {
    http: Client,
    address: String,
    application: String,
    proof: Proof,
}

impl Principal {
    pub(super) fn new(
        http: Client,
        authority: &str,
        tenant: &str,
        application: String,
        proof: Proof,
    ) -> Self {
        Self {
            http,
            address: format!("{authority}/{tenant}/oauth2/v2.0/token"),
            application,
            proof,
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("address", &self.address)
            .field("application", &self.application)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Issuer for Principal {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the token service of Microsoft Entra";
        let scope = format!("{RESOURCE}.default");
        let assertion;
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", &self.application),
            ("scope", &scope),
        ];
        let hint = match &self.proof {
            Proof::Secret(secret) => {
                fields.push(("client_secret", secret));
                "Check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, and whether the secret has expired."
            }
            Proof::File(file) => {
                assertion = std::fs::read_to_string(file)
                    .map_err(|error| {
                        Error::new(
                            Kind::Unauthenticated,
                            format!("cannot read the token in {}: {error}", file.display()),
                        )
                        .with_hint(
                            "Check AZURE_FEDERATED_TOKEN_FILE and the service account of the pod.",
                        )
                    })?
                    .trim()
                    .to_owned();
                fields.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ));
                fields.push(("client_assertion", &assertion));
                "Check AZURE_TENANT_ID, AZURE_CLIENT_ID and the federated credential of the application: its issuer, subject and audience."
            }
        };
        let answer = ask(&self.http, WHAT, hint, form(&self.address, &fields)?).await?;
        token_of(&answer, WHAT)
    }
}
