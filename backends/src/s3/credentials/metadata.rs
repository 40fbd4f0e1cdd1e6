//! Credentials of the machine or the container we run in.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::settings::Settings;

use super::{Credentials, Provider, ask, from_json, read_file};
use crate::http::{Chunks, Client};

/// The host that ECS serves credentials on.
const ECS: &str = "http://169.254.170.2";
const LIMIT: Duration = Duration::from_secs(5);

/// What the settings say of the services around us.
#[derive(Debug, Clone)]
pub struct Metadata {
    client: Client,
    container: Option<Container>,
    instance: Option<String>,
}

#[derive(Clone)]
struct Container {
    url: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Metadata {
    pub fn load(settings: &Settings, client: Client) -> Self {
        let text = |name: &str| settings.text(name).map(str::trim).filter(|text| !text.is_empty());
        let url = match (
            text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            text("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => Some(format!("{ECS}{path}")),
            (None, full) => full.map(str::to_owned),
        };
        let container = url.map(|url| Container {
            url,
            token: text("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
            token_file: text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
        });
        let endpoint =
            text("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or("http://169.254.169.254");
        let instance = (!settings.flag("AWS_EC2_METADATA_DISABLED"))
            .then(|| endpoint.trim_end_matches('/').to_owned());
        Self { client, container, instance }
    }

    /// The container's service where there is one, or else the instance's.
    pub fn providers(&self) -> Vec<Box<dyn Provider>> {
        match (self.container(), self.instance()) {
            (Some(provider), _) | (None, Some(provider)) => vec![provider],
            (None, None) => Vec::new(),
        }
    }

    /// The container's service.
    pub fn container(&self) -> Option<Box<dyn Provider>> {
        let container = self.container.clone()?;
        Some(Box::new(ContainerService { client: self.client.clone(), container }))
    }

    /// The instance's service.
    pub fn instance(&self) -> Option<Box<dyn Provider>> {
        let endpoint = self.instance.clone()?;
        Some(Box::new(InstanceService { client: self.client.clone(), endpoint }))
    }
}

#[derive(Debug)]
struct ContainerService {
    client: Client,
    container: Container,
}

#[async_trait]
impl Provider for ContainerService {
    async fn fetch(&self) -> Result<Option<Credentials>> {
        let uri: http::Uri = self.container.url.parse().map_err(|_| {
            Error::new(Kind::Config, "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an address")
        })?;
        if !is_trusted(&uri) {
            return Err(Error::new(
                Kind::Config,
                format!("credentials are not fetched from {uri} without TLS"),
            )
            .with_hint(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this host.",
            ));
        }
        let token = match (&self.container.token_file, &self.container.token) {
            (Some(path), _) => Some(read_file(path).await?.trim().to_owned()),
            (None, token) => token.clone(),
        };
        let mut request = http::Request::get(uri).header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(Chunks::default()).map_err(|_| {
            Error::new(
                Kind::Config,
                "the container's token holds characters that no header may hold",
            )
        })?;
        let (status, body) = ask(&self.client, request, LIMIT)
            .await
            .map_err(|error| error.context("cannot fetch the container's credentials"))?;
        if status.is_success() {
            from_json(&body, self.name()).map(Some)
        } else {
            Err(refused(self.name(), status))
        }
    }

    fn name(&self) -> &'static str {
        "container metadata"
    }
}

/// The hosts the SDKs of AWS allow without TLS.
fn is_trusted(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    uri.scheme_str() == Some("https")
        || matches!(host, "localhost" | "169.254.170.2" | "169.254.170.23" | "fd00:ec2::23")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Debug)]
struct InstanceService {
    client: Client,
    endpoint: String,
}

impl InstanceService {
    async fn call(
        &self,
        method: &str,
        path: &str,
        header: (&str, &str),
    ) -> Result<(StatusCode, Vec<u8>)> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header(header.0, header.1)
            .body(Chunks::default())
            .map_err(|_| {
                Error::new(Kind::Config, "AWS_EC2_METADATA_SERVICE_ENDPOINT is not an address")
            })?;
        ask(&self.client, request, LIMIT).await
    }
}

#[async_trait]
impl Provider for InstanceService {
    async fn fetch(&self) -> Result<Option<Credentials>> {
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let token = self
            .call("PUT", "/latest/api/token", ("x-aws-ec2-metadata-token-ttl-seconds", "21600"))
            .await;
        let token = match token {
            Ok((status, token)) if status.is_success() => {
                String::from_utf8_lossy(&token).trim().to_owned()
            }
            Ok((status, _)) => return Err(refused(self.name(), status)),
            // Nobody is there: this is no such machine.
            Err(error) if error.kind() == Kind::Unavailable => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = ("x-aws-ec2-metadata-token", token.as_str());
        let (status, role) = self.call("GET", ROLES, header).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(refused(self.name(), status));
        }
        let role =
            String::from_utf8_lossy(&role).lines().next().unwrap_or_default().trim().to_owned();
        let (status, body) = self.call("GET", &format!("{ROLES}{role}"), header).await?;
        if status.is_success() {
            from_json(&body, self.name()).map(Some)
        } else {
            Err(refused(self.name(), status))
        }
    }

    fn name(&self) -> &'static str {
        "instance metadata"
    }
}

fn refused(name: &str, status: StatusCode) -> Error {
    let class = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Class::Transient
    } else {
        Class::Never
    };
    Error::new(Kind::Unauthenticated, format!("{name} answered {status}"))
        .with_class(class)
        .with_hint("Check the role of this host or pod, and the hop limit of its metadata service.")
}
