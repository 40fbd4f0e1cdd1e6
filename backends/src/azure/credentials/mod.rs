//! Who we are to Microsoft Entra: a service principal, a workload identity, or
//! a managed identity of the host. Tokens are renewed before they end, also in
//! the middle of an upload.

mod managed;
mod principal;

use std::path::PathBuf;
use std::time::Duration;

use walport_engine::error::Result;
use walport_engine::settings::Settings;

use super::settings::{authority_of, trimmed, wrong};
use crate::http::token::{Issuer, Tokens};
use crate::http::{Client, Options};

/// What tokens must be good for; the same in every cloud.
const RESOURCE: &str = "https://storage.azure.com/";

/// Where tokens come from.
#[derive(Debug)]
pub struct Entra {
    pub(super) tokens: Tokens,
}

impl Entra {
    /// What `settings` say, in the order of Azure's own tools: a service
    /// principal, a workload identity, a managed identity.
    pub fn load(settings: &Settings) -> Result<Self> {
        let text = |name| trimmed(settings, name).map(str::to_owned);
        let ca_files: Vec<PathBuf> =
            text("WALPORT_AZURE_CA_FILE").map(PathBuf::from).into_iter().collect();
        let connect = |seconds| {
            Client::new(&Options {
                ca_files: ca_files.clone(),
                connect_timeout: Duration::from_secs(seconds),
                idle: 1,
            })
        };
        let authority = text("AZURE_AUTHORITY_HOST").unwrap_or_else(|| {
            authority_of(trimmed(settings, "AZURE_ENVIRONMENT_NAME").unwrap_or_default()).to_owned()
        });
        let authority =
            if authority.contains("://") { authority } else { format!("https://{authority}") };
        let (tenant, client, secret) =
            (text("AZURE_TENANT_ID"), text("AZURE_CLIENT_ID"), text("AZURE_CLIENT_SECRET"));
        let file = text("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        let proof = match (secret, file) {
            (Some(secret), _) => Some(principal::Proof::Secret(secret)),
            (None, Some(file)) => Some(principal::Proof::File(file)),
            (None, None) => None,
        };
        let issuer: Box<dyn Issuer> = match proof {
            Some(proof) => {
                let (Some(tenant), Some(application)) = (tenant, client) else {
                    return Err(wrong(
                        format!(
                            "{} is set without AZURE_TENANT_ID and AZURE_CLIENT_ID",
                            proof.setting()
                        ),
                        "Set all three, or none to use the managed identity of this host.",
                    ));
                };
                Box::new(principal::Principal::new(
                    connect(10)?,
                    authority.trim_end_matches('/'),
                    &tenant,
                    application,
                    proof,
                ))
            }
            None => {
                if let Some(address) = text("IDENTITY_ENDPOINT") {
                    Box::new(managed::Service {
                        http: connect(5)?,
                        address,
                        header: text("IDENTITY_HEADER"),
                        client,
                    })
                } else {
                    let host = text("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_default();
                    Box::new(managed::Host {
                        http: connect(1)?,
                        host: host.trim_end_matches('/').to_owned(),
                        client,
                    })
                }
            }
        };
        Ok(Self { tokens: Tokens::new(issuer) })
    }
}
