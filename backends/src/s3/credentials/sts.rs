//! The security token service: roles assumed with keys or with a web identity.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::StatusCode;
use walport_engine::error::{Class, Error, Kind, Result};

use super::super::sign::{Scope, encode, sha256, sign};
use super::{Credentials, Provider, ask, read_file};
use crate::http::xml;
use crate::http::{Chunks, Client};

const LIMIT: Duration = Duration::from_secs(15);

/// Where roles are assumed.
#[derive(Debug, Clone)]
pub struct Service {
    client: Client,
    uri: http::Uri,
    region: String,
}

impl Service {
    pub fn new(client: Client, endpoint: Option<&str>, region: Option<&str>) -> Result<Self> {
        let text = match (endpoint, region) {
            (Some(text), _) => format!("{}/", text.trim_end_matches('/')),
            (None, Some(region)) if region.starts_with("cn-") => {
                format!("https://sts.{region}.amazonaws.com.cn/")
            }
            (None, Some(region)) => format!("https://sts.{region}.amazonaws.com/"),
            (None, None) => "https://sts.amazonaws.com/".to_owned(),
        };
        let uri = text.parse().map_err(|_| {
            Error::new(Kind::Config, format!("AWS_ENDPOINT_URL_STS {text:?} is not an address"))
        })?;
        Ok(Self { client, uri, region: region.unwrap_or("us-east-1").to_owned() })
    }

    async fn call(
        &self,
        action: &str,
        fields: &[(&str, &str)],
        signer: Option<&Credentials>,
    ) -> Result<Credentials> {
        let mut form = format!("Action={action}&Version=2011-06-15");
        for (name, value) in fields {
            form.push_str(&format!("&{name}={}", encode(value)));
        }
        let request = http::Request::post(self.uri.clone())
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(())
            .map_err(|_| {
                Error::new(Kind::Internal, "a request to the token service cannot be built")
            })?;
        let (mut parts, ()) = request.into_parts();
        if let Some(credentials) = signer {
            let scope = Scope { region: &self.region, service: "sts", now: Utc::now() };
            sign(&mut parts, credentials, &sha256(std::iter::once(form.as_bytes())), scope)?;
        }
        let request = http::Request::from_parts(parts, Chunks::from(form));
        let (status, body) = ask(&self.client, request, LIMIT)
            .await
            .map_err(|error| error.context("cannot assume the role"))?;
        if status.is_success() { from_xml(&body) } else { Err(refused(status, &body)) }
    }
}

fn from_xml(body: &[u8]) -> Result<Credentials> {
    let (Some(key), Some(secret)) =
        (xml::find(body, "AccessKeyId"), xml::find(body, "SecretAccessKey"))
    else {
        return Err(Error::new(
            Kind::Unauthenticated,
            "the token service answered without credentials",
        ));
    };
    let expires = xml::find(body, "Expiration")
        .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
        .map(|time| time.to_utc());
    let token = xml::find(body, "SessionToken");
    Ok(Credentials { expires, ..Credentials::new(&key, &secret, token.as_deref()) })
}

fn refused(status: StatusCode, body: &[u8]) -> Error {
    let code = xml::find(body, "Code").unwrap_or_else(|| status.to_string());
    let said = xml::find(body, "Message").unwrap_or_default();
    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    Error::new(Kind::Unauthenticated, format!("the role cannot be assumed: {code}: {said}"))
        .with_class(if again { Class::Transient } else { Class::Never })
        .with_hint("Check AWS_ROLE_ARN, and that the role trusts this identity.")
}

/// A role that other credentials assume.
#[derive(Debug, Clone)]
pub struct Role {
    pub service: Service,
    pub arn: String,
    pub session: String,
    pub external_id: Option<String>,
    pub seconds: Option<u32>,
}

impl Role {
    /// The credentials of the role.
    pub async fn assume(&self, base: &Credentials) -> Result<Credentials> {
        let seconds = self.seconds.unwrap_or(3600).to_string();
        let mut fields = vec![
            ("RoleArn", self.arn.as_str()),
            ("RoleSessionName", self.session.as_str()),
            ("DurationSeconds", seconds.as_str()),
        ];
        if let Some(id) = &self.external_id {
            fields.push(("ExternalId", id));
        }
        self.service.call("AssumeRole", &fields, Some(base)).await
    }
}

/// A role that the token in a file assumes; the file is read each time, since
/// Kubernetes renews it.
#[derive(Debug, Clone)]
pub struct WebIdentity {
    pub service: Service,
    pub role: String,
    pub session: String,
    pub file: PathBuf,
}

#[async_trait]
impl Provider for WebIdentity {
    async fn fetch(&self) -> Result<Option<Credentials>> {
        let token = read_file(&self.file).await?;
        let fields = [
            ("RoleArn", self.role.as_str()),
            ("RoleSessionName", self.session.as_str()),
            ("WebIdentityToken", token.trim()),
        ];
        self.service.call("AssumeRoleWithWebIdentity", &fields, None).await.map(Some)
    }

    fn name(&self) -> &'static str {
        "web identity"
    }
}
