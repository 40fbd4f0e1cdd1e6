//! The service account of the host, by its metadata server.

use async_trait::async_trait;
use http::Method;
use walport_engine::error::Result;

use crate::http::Client;
use crate::http::token::{Issuer, Token, ask, request, token_of};

/// A virtual machine, a container or a function of Google's.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) http: Client,
    pub(super) host: String,
}

#[async_trait]
impl Issuer for Host {
    async fn issue(&self) -> Result<Token> {
        const WHAT: &str = "the metadata server of this host";
        const HINT: &str = "Set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or give this host a service account.";
        let base = if self.host.contains("://") {
            self.host.trim_end_matches('/').to_owned()
        } else {
            format!("http://{}", self.host)
        };
        let address = format!("{base}/computeMetadata/v1/instance/service-accounts/default/token");
        let request =
            request(Method::GET, &address, &[("metadata-flavor", "Google")], String::new())?;
        // A host outside of Google's cloud does not even connect.
        let answer =
            ask(&self.http, WHAT, HINT, request).await.map_err(|error| error.with_hint(HINT))?;
        token_of(&answer, WHAT)
    }
}
