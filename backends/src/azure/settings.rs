//! The settings of Azure, and what follows from them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::memory::{Budget, CHUNK};
use walport_engine::settings::{Setting, Settings, Type};

use crate::http::parts::Bounds;

/// The largest block.
pub const MAX_BLOCK: u64 = 4000 << 20;
/// The most blocks of one blob.
pub const MAX_BLOCKS: u64 = 50_000;
/// The version of the protocol that is spoken unless a setting says otherwise:
/// old enough for Azure Stack Hub and emulators, and it has all that is used.
const VERSION: &str = "2021-12-02";
/// From this version on a listing can begin at a name.
const START_FROM: &str = "2026-02-06";

const GROUP: &str = "Azure";

const fn row(name: &'static str, help: &'static str) -> Setting {
    Setting::new(name, GROUP, help).namespaced()
}

/// The rows of Azure.
pub const SETTINGS: &[Setting] = &[
    row("WALG_AZ_PREFIX", "Where backups and WAL are kept: azure://container/path."),
    row("AZURE_STORAGE_ACCOUNT", "The storage account. May be left out where a connection string or an endpoint names it."),
    row("AZURE_STORAGE_ACCESS_KEY", "The shared key of the account, in base64. It is preferred to every other credential.").secret(),
    row("AZURE_STORAGE_SAS_TOKEN", "A shared access signature, with or without the question mark. Used if there is no key.").secret(),
    row("AZURE_STORAGE_CONNECTION_STRING", "Account, credential and endpoint in one, as the portal shows it. Other settings are preferred to what it says.").secret(),
    row("AZURE_CLIENT_ID", "The application of a service principal or of a workload identity, or the managed identity that is wanted where a host has several."),
    row("AZURE_TENANT_ID", "The tenant of the application."),
    row("AZURE_CLIENT_SECRET", "The secret of a service principal; with AZURE_TENANT_ID and AZURE_CLIENT_ID.").secret(),
    row("AZURE_FEDERATED_TOKEN_FILE", "The file with the token of a workload identity; Kubernetes sets it.").kind(Type::Path),
    row("AZURE_AUTHORITY_HOST", "Where tokens of Microsoft Entra are asked for; follows from AZURE_ENVIRONMENT_NAME."),
    row("AZURE_POD_IDENTITY_AUTHORITY_HOST", "Where the managed identity of a host is asked for.").default("http://169.254.169.254"),
    row("IDENTITY_ENDPOINT", "Where App Service and Container Apps give out tokens of a managed identity; they set it."),
    row("IDENTITY_HEADER", "The secret that belongs to IDENTITY_ENDPOINT.").secret(),
    row("AZURE_ENVIRONMENT_NAME", "The cloud: AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud or AzureGermanCloud.").default("AzurePublicCloud"),
    row("AZURE_ENDPOINT_SUFFIX", "The domain of the cloud, as core.windows.net; preferred to AZURE_ENVIRONMENT_NAME."),
    row("WALPORT_AZURE_ENDPOINT", "The address of the blob service, for emulators, private links and custom domains: https://host[/account]."),
    row("WALPORT_AZURE_CA_FILE", "A file of PEM certificates that are trusted besides those of the system.").kind(Type::Path),
    row("WALPORT_AZURE_ACCESS_TIER", "The access tier of new blobs: Hot, Cool, Cold or Archive. Without it, that of the account."),
    row("AZURE_BUFFER_SIZE", "The largest block of an upload in bytes; smaller where the memory limit asks for it. At least 256 KiB are used.").kind(Type::Size).default("8388608"),
    row("AZURE_MAX_BUFFERS", "The most blocks of one upload that are on their way at a time.").kind(Type::Int(1, 1024)).default("4"),
    row("AZURE_TRY_TIMEOUT", "Minutes. Requests have no total deadline; a connection on which nothing moves is given up by the engine's own limit.").kind(Type::Int(0, i64::MAX)).default("5").pending(),
    row("AZURE_BLOB_STORE_API_VERSION", "The version of the protocol, as 2021-12-02, which is the default. From 2026-02-06 on, listings begin where they are asked to instead of reading what comes before."),
];

/// Who we are, as far as the settings say it.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// The shared key.
    Key(Vec<u8>),
    /// A shared access signature, ready to be part of a query.
    Sas(String),
    /// Tokens of Microsoft Entra.
    Entra,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Login::Key(_) => "Key(hidden)",
            Login::Sas(_) => "Sas(hidden)",
            Login::Entra => "Entra",
        })
    }
}

/// Everything there is to know about one container.
#[derive(Debug, Clone)]
pub struct Config {
    pub account: String,
    pub container: String,
    /// Before every key: empty, or with a final slash.
    pub root: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port where it is not the scheme's own.
    pub authority: String,
    /// What goes before the container: empty, or with a leading slash.
    pub base: String,
    pub login: Login,
    pub version: String,
    pub tier: Option<String>,
    pub ca_files: Vec<PathBuf>,
    pub bounds: Bounds,
    pub retries: u32,
    /// Bodies carry an MD5, since nothing else would find what the way did to them.
    pub proves: bool,
}

pub(super) fn wrong(message: impl Into<String>, hint: &str) -> Error {
    Error::new(Kind::Config, message).with_hint(hint)
}

pub(super) fn trimmed<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.text(name).map(str::trim).filter(|text| !text.is_empty())
}

impl Config {
    /// What `settings` say about the store at `target`.
    pub fn load(target: &str, settings: &Settings, budget: &Budget, retries: u32) -> Result<Self> {
        let (container, root) = split_target(target)?;
        let text = trimmed(settings, "AZURE_STORAGE_CONNECTION_STRING");
        let mut string = text.map(ConnectionString::parse).transpose()?.unwrap_or_default();
        let named = trimmed(settings, "AZURE_STORAGE_ACCOUNT").map(str::to_owned);
        let given = trimmed(settings, "WALPORT_AZURE_ENDPOINT").map(str::to_owned);
        let endpoint = given.or(string.endpoint.take());
        let account =
            named.or(string.account.take()).or_else(|| endpoint.as_deref().and_then(account_of));
        let Some(account) = account else {
            return Err(wrong(
                "AZURE_STORAGE_ACCOUNT is not set",
                "Set AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING.",
            ));
        };
        let endpoint = if let Some(endpoint) = endpoint {
            endpoint
        } else {
            let cloud = trimmed(settings, "AZURE_ENVIRONMENT_NAME").unwrap_or_default();
            let suffix = trimmed(settings, "AZURE_ENDPOINT_SUFFIX")
                .or(string.suffix.as_deref())
                .unwrap_or_else(|| suffix_of(cloud));
            format!(
                "{}://{account}.blob.{}",
                string.scheme.as_deref().unwrap_or("https"),
                suffix.trim_matches('.')
            )
        };
        let (scheme, authority, base) = split_endpoint(&endpoint)?;
        let login = match (
            trimmed(settings, "AZURE_STORAGE_ACCESS_KEY"),
            trimmed(settings, "AZURE_STORAGE_SAS_TOKEN"),
        ) {
            (Some(key), _) => Login::Key(decode_key(key)?),
            (None, Some(sas)) => Login::Sas(sas_of(sas)?),
            (None, None) => match (string.key, string.sas) {
                (Some(key), _) => Login::Key(decode_key(&key)?),
                (None, Some(sas)) => Login::Sas(sas_of(&sas)?),
                (None, None) => Login::Entra,
            },
        };
        let version = trimmed(settings, "AZURE_BLOB_STORE_API_VERSION").unwrap_or(VERSION);
        if version.len() != 10 || !version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        {
            return Err(wrong(
                format!("AZURE_BLOB_STORE_API_VERSION {version:?} is no version"),
                "Write it as 2021-12-02.",
            ));
        }
        let unit = CHUNK as u64;
        let part = settings
            .size("AZURE_BUFFER_SIZE")
            .unwrap_or(8 << 20)
            .next_multiple_of(unit)
            .clamp(unit, MAX_BLOCK);
        Ok(Self {
            proves: scheme != "https",
            account,
            container,
            root,
            scheme,
            authority,
            base,
            login,
            version: version.to_owned(),
            tier: trimmed(settings, "WALPORT_AZURE_ACCESS_TIER").map(str::to_owned),
            ca_files: trimmed(settings, "WALPORT_AZURE_CA_FILE")
                .map(PathBuf::from)
                .into_iter()
                .collect(),
            bounds: Bounds {
                part,
                max_part: MAX_BLOCK,
                max_parts: MAX_BLOCKS,
                in_flight: settings.number("AZURE_MAX_BUFFERS").unwrap_or(4).clamp(1, 1024)
                    as usize,
                memory: budget.limit(),
            },
            retries,
        })
    }

    /// Whether listings can begin at a name.
    pub fn has_start_from(&self) -> bool {
        self.version.as_str() >= START_FROM
    }
}

fn split_target(target: &str) -> Result<(String, String)> {
    let rest = target.strip_prefix("azure://").unwrap_or(target);
    let (container, path) = rest.split_once('/').unwrap_or((rest, ""));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '$');
    if container.is_empty() || !container.chars().all(legal) {
        return Err(wrong(
            format!("{target:?} names no container"),
            "Write azure://container/path.",
        ));
    }
    let path = path.trim_matches('/');
    let root = if path.is_empty() { String::new() } else { format!("{path}/") };
    Ok((container.to_owned(), root))
}

/// The domain of a cloud; one that is not known is the public one, as in WAL-G.
fn suffix_of(cloud: &str) -> &'static str {
    match cloud {
        "AzureUSGovernmentCloud" | "AzureUSGovernment" => "core.usgovcloudapi.net",
        "AzureChinaCloud" => "core.chinacloudapi.cn",
        "AzureGermanCloud" => "core.cloudapi.de",
        _ => "core.windows.net",
    }
}

/// Where the tokens of a cloud come from.
pub(super) fn authority_of(cloud: &str) -> &'static str {
    match cloud {
        "AzureUSGovernmentCloud" | "AzureUSGovernment" => "https://login.microsoftonline.us",
        "AzureChinaCloud" => "https://login.chinacloudapi.cn",
        "AzureGermanCloud" => "https://login.microsoftonline.de",
        _ => "https://login.microsoftonline.com",
    }
}

fn split_endpoint(text: &str) -> Result<(String, String, String)> {
    const HINT: &str = "Write https://host:port, and the account after a slash for an emulator.";
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: http::Uri = full.parse().map_err(|error| {
        wrong(format!("the endpoint {text:?} is not an address: {error}"), HINT)
    })?;
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let (Some(authority), true, None) =
        (uri.authority(), matches!(scheme.as_str(), "http" | "https"), uri.query())
    else {
        return Err(wrong(format!("the endpoint {text:?} is not an address"), HINT));
    };
    if authority.as_str().contains('@') {
        return Err(wrong(
            "the endpoint holds a user name",
            "Give credentials in settings of their own.",
        ));
    }
    let own = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.as_str().strip_suffix(own).unwrap_or(authority.as_str()).to_owned();
    Ok((scheme, authority, uri.path().trim_end_matches('/').to_owned()))
}

/// The account that an endpoint names: its first label, or the path of an emulator.
fn account_of(endpoint: &str) -> Option<String> {
    let (_, authority, base) = split_endpoint(endpoint).ok()?;
    let name = match base.strip_prefix('/') {
        Some(path) => path.split('/').next()?,
        None => authority.split_once(".blob.")?.0,
    };
    (!name.is_empty()).then(|| name.to_owned())
}

fn decode_key(key: &str) -> Result<Vec<u8>> {
    STANDARD.decode(key.trim()).ok().filter(|raw| !raw.is_empty()).ok_or_else(|| {
        wrong(
            "the access key of the account is not base64",
            "Copy AZURE_STORAGE_ACCESS_KEY again, with the equals signs at its end.",
        )
    })
}

/// A signature as it stands in a query. What is there is taken as it is, since
/// it may be encoded or not.
fn sas_of(text: &str) -> Result<String> {
    let text = text.trim().trim_start_matches('?');
    let encoded: Vec<String> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let raw = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            format!("{name}={}", crate::http::uri::encode(&raw))
        })
        .collect();
    if encoded.iter().any(|pair| pair.starts_with("sig=")) {
        return Ok(encoded.join("&"));
    }
    Err(wrong(
        "the shared access signature has no sig",
        "Copy AZURE_STORAGE_SAS_TOKEN again; it looks like sv=...&sig=...",
    ))
}

/// What a connection string says.
#[derive(Default)]
struct ConnectionString {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    scheme: Option<String>,
    suffix: Option<String>,
    endpoint: Option<String>,
}

impl ConnectionString {
    fn parse(text: &str) -> Result<Self> {
        const HINT: &str = "Copy it from the portal: DefaultEndpointsProtocol=https;AccountName=...;AccountKey=...";
        let mut string = Self::default();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(wrong(
                    "AZURE_STORAGE_CONNECTION_STRING is not made of name=value pairs",
                    HINT,
                ));
            };
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "accountname" => string.account = value,
                "accountkey" => string.key = value,
                "sharedaccesssignature" => string.sas = value,
                "defaultendpointsprotocol" => {
                    string.scheme = value.map(|value| value.to_ascii_lowercase());
                }
                "endpointsuffix" => string.suffix = value,
                "blobendpoint" => string.endpoint = value,
                "usedevelopmentstorage" if value.as_deref() == Some("true") => string.emulate(),
                _ => {}
            }
        }
        if string.account.is_none() && string.endpoint.is_none() {
            return Err(wrong(
                "AZURE_STORAGE_CONNECTION_STRING names neither AccountName nor BlobEndpoint",
                HINT,
            ));
        }
        Ok(string)
    }

    /// The emulator that every development kit knows, with its public key.
    fn emulate(&mut self) {
        self.account = Some("devstoreaccount1".to_owned());
        self.key = Some("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==".to_owned());
        self.endpoint = Some("http://127.0.0.1:10000/devstoreaccount1".to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use walport_engine::settings::{Source, Table};

    use super::*;

    fn load(target: &str, values: &[(&str, &str)]) -> Result<Config> {
        let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
        for (name, value) in values {
            settings.set(name, value, Source::Flag((*name).to_owned()))?;
        }
        Config::load(target, &settings, &Budget::new(64 << 20), 0)
    }

    fn address(values: &[(&str, &str)]) -> String {
        let config = load("azure://box/some/path/", values).unwrap();
        assert_eq!((config.container.as_str(), config.root.as_str()), ("box", "some/path/"));
        format!("{} {}://{}{}", config.account, config.scheme, config.authority, config.base)
    }

    #[test]
    fn addresses_follow_cloud_suffix_and_endpoint() {
        let account = ("AZURE_STORAGE_ACCOUNT", "acme");
        assert_eq!(address(&[account]), "acme https://acme.blob.core.windows.net");
        assert_eq!(
            address(&[account, ("AZURE_ENVIRONMENT_NAME", "AzureChinaCloud")]),
            "acme https://acme.blob.core.chinacloudapi.cn"
        );
        assert_eq!(
            address(&[account, ("AZURE_ENVIRONMENT_NAME", "AzureUSGovernmentCloud")]),
            "acme https://acme.blob.core.usgovcloudapi.net"
        );
        assert_eq!(
            address(&[account, ("WALG_AZURE_ENDPOINT_SUFFIX", "my.stack")]),
            "acme https://acme.blob.my.stack"
        );
        assert_eq!(
            address(&[("WALPORT_AZURE_ENDPOINT", "http://127.0.0.1:10000/dev1/")]),
            "dev1 http://127.0.0.1:10000/dev1"
        );
        assert_eq!(
            address(&[("WALPORT_AZURE_ENDPOINT", "https://acme.blob.core.windows.net:443")]),
            "acme https://acme.blob.core.windows.net"
        );
        assert_eq!(
            address(&[account, ("WALPORT_AZURE_ENDPOINT", "blobs.example.org")]),
            "acme https://blobs.example.org"
        );
    }

    #[test]
    fn connection_strings_are_read() {
        let string = |text| load("azure://box", &[("AZURE_STORAGE_CONNECTION_STRING", text)]);
        let config = string("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a2V5;EndpointSuffix=core.windows.net").unwrap();
        assert_eq!(
            (config.authority.as_str(), &config.login),
            ("acme.blob.core.windows.net", &Login::Key(b"key".to_vec()))
        );
        let config = string("BlobEndpoint=https://acme.blob.core.windows.net/;SharedAccessSignature=sv=2021&sig=a%2Fb+c=").unwrap();
        assert_eq!(
            (config.account.as_str(), &config.login),
            ("acme", &Login::Sas("sv=2021&sig=a%2Fb%2Bc%3D".to_owned()))
        );
        let config = string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(
            (config.authority.as_str(), config.base.as_str()),
            ("127.0.0.1:10000", "/devstoreaccount1")
        );
        for bad in [
            "nonsense",
            "AccountKey=a2V5",
            "AccountName=acme;AccountKey=%%%",
            "AccountName=acme;SharedAccessSignature=sv=1",
        ] {
            let error = string(bad).unwrap_err();
            assert!(error.kind() == Kind::Config && error.hint().is_some(), "{bad}: {error}");
        }
    }

    #[test]
    fn a_key_is_preferred_and_nothing_shows_it() {
        let config = load(
            "azure://box",
            &[
                ("AZURE_STORAGE_ACCOUNT", "acme"),
                ("AZURE_STORAGE_ACCESS_KEY", "c2VjcmV0"),
                ("AZURE_STORAGE_SAS_TOKEN", "?sig=secret"),
            ],
        )
        .unwrap();
        assert_eq!(config.login, Login::Key(b"secret".to_vec()));
        assert!(!format!("{config:?}").contains("sig="));
        let config = load(
            "azure://box",
            &[("AZURE_STORAGE_ACCOUNT", "acme"), ("AZURE_STORAGE_SAS_TOKEN", "?sig=s")],
        )
        .unwrap();
        assert_eq!(config.login, Login::Sas("sig=s".to_owned()));
        assert_eq!(
            load("azure://box", &[("AZURE_STORAGE_ACCOUNT", "acme")]).unwrap().login,
            Login::Entra
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (target, values) in [
            ("azure:///path", &[("AZURE_STORAGE_ACCOUNT", "a")][..]),
            ("azure://box", &[][..]),
            ("azure://box", &[("WALPORT_AZURE_ENDPOINT", "ftp://x/a")]),
            (
                "azure://box",
                &[
                    ("WALPORT_AZURE_ENDPOINT", "https://user:secret@x/a"),
                    ("AZURE_STORAGE_ACCOUNT", "a"),
                ],
            ),
            (
                "azure://box",
                &[("AZURE_STORAGE_ACCOUNT", "a"), ("AZURE_BLOB_STORE_API_VERSION", "latest")],
            ),
        ] {
            let error = load(target, values).unwrap_err();
            assert!(
                error.kind() == Kind::Config && error.hint().is_some(),
                "{target} {values:?}: {error}"
            );
            assert!(!error.to_string().contains("secret"));
        }
    }
}
