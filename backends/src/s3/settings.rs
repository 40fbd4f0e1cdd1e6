//! The settings of S3, and what follows from them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use walport_engine::error::{Error, Kind, Result};
use walport_engine::memory::{Budget, CHUNK};
use walport_engine::settings::{Setting, Settings, Type};

/// The smallest part that S3 takes, the last one excepted.
pub const MIN_PART: u64 = 5 << 20;
/// The largest part, and the largest body of one request.
pub const MAX_PART: u64 = 5 << 30;
/// The most parts of one upload.
pub const MAX_PARTS: u64 = 10_000;
/// The largest object.
pub const MAX_OBJECT: u64 = 5 << 40;

const GROUP: &str = "S3";
const COUNT: Type = Type::Int(1, i64::MAX);

const fn row(name: &'static str, help: &'static str) -> Setting {
    Setting::new(name, GROUP, help).namespaced()
}

/// The rows of S3.
pub const SETTINGS: &[Setting] = &[
    Setting::new("WALG_S3_PREFIX", GROUP, "Where backups and WAL are kept: s3://bucket/path.").namespaced(),
    Setting::new("WALPORT_S3_PRESET", GROUP, "The kind of store behind the endpoint; sets path style, checksums and conditional writes to what that store can do.")
        .kind(Type::Choice(&["aws", "minio", "ceph", "r2", "b2"])),
    Setting::new("WALPORT_S3_CHECKSUM", GROUP, "How the store checks what it receives: sha256 signs each body, crc32 and md5 add a header, none relies on TLS. auto is what the preset says; without one, sha256 where there is no TLS and none where there is.")
        .kind(Type::Choice(&["auto", "sha256", "crc32", "md5", "none"])).default("auto"),
    Setting::new("WALPORT_S3_CONDITIONAL", GROUP, "Whether the store honours If-None-Match when it stores: yes; puts, only for bodies of one request; no, then an object is asked for before it is created. auto is what the preset says, and yes without one.")
        .kind(Type::Choice(&["auto", "yes", "puts", "no"])).default("auto"),
    Setting::new("WALPORT_S3_COPY_LIMIT", GROUP, "Larger objects are copied in parts inside the store; at most 5 GiB.")
        .kind(Type::Size).default("5GiB"),
    Setting::new("WALPORT_S3_TAGS", GROUP, "Tags of every object that is stored, as a map of names to values.").kind(Type::Map),
    row("AWS_ACCESS_KEY_ID", "Access key. Unset: web identity, profile files, container and instance metadata are tried, in this order.")
        .aliases(&["AWS_ACCESS_KEY"]).secret(),
    row("AWS_SECRET_ACCESS_KEY", "Secret key.").aliases(&["AWS_SECRET_KEY"]).secret(),
    row("AWS_SESSION_TOKEN", "Session token that belongs to a temporary access key.").secret(),
    row("AWS_PROFILE", "The profile of the shared files that credentials are taken from.").default("default"),
    row("AWS_SHARED_CREDENTIALS_FILE", "The shared credentials file; ~/.aws/credentials if it is not set.").kind(Type::Path),
    row("AWS_CONFIG_FILE", "The shared configuration file; ~/.aws/config if it is not set.").kind(Type::Path),
    row("AWS_CA_BUNDLE", "A file of PEM certificates that are trusted besides those of the system.").kind(Type::Path),
    row("S3_CA_CERT_FILE", "A file of PEM certificates that are trusted besides those of the system.").kind(Type::Path),
    row("AWS_ROLE_ARN", "A role to assume before the store is used."),
    row("AWS_ROLE_SESSION_NAME", "The name of the session of an assumed role.").default("walport"),
    row("AWS_WEB_IDENTITY_TOKEN_FILE", "A file with the token that AWS_ROLE_ARN is assumed with (set by Kubernetes).").kind(Type::Path),
    row("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "The path of the credentials of an ECS task (set by ECS)."),
    row("AWS_CONTAINER_CREDENTIALS_FULL_URI", "The address of the credentials of a container (set by ECS and EKS)."),
    row("AWS_CONTAINER_AUTHORIZATION_TOKEN", "The token for the address of the container's credentials.").secret(),
    row("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "A file with the token for the address of the container's credentials.").kind(Type::Path),
    row("AWS_EC2_METADATA_DISABLED", "Do not ask the instance metadata service for credentials.").kind(Type::Bool).default("false"),
    row("AWS_EC2_METADATA_SERVICE_ENDPOINT", "The instance metadata service.").default("http://169.254.169.254"),
    row("AWS_ENDPOINT_URL_STS", "The security token service; that of the region if it is not set."),
    row("AWS_REGION", "The region of the bucket. Unset: AWS is asked; us-east-1 for other endpoints."),
    row("AWS_DEFAULT_REGION", "Read by other tools; not used for the bucket."),
    row("AWS_DEFAULT_OUTPUT", "Read by other tools; has no effect."),
    row("AWS_ENDPOINT", "The address of a store that is not AWS: https://host:port."),
    row("AWS_S3_FORCE_PATH_STYLE", "Put the bucket in the path, not in the host name. Always so for an endpoint that is an IP address or localhost.")
        .kind(Type::Bool),
    row("AWS_DUAL_STACK", "Use the endpoints of AWS that have IPv6 addresses.").kind(Type::Bool).default("false"),
    row("S3_STORAGE_CLASS", "The storage class of what is uploaded.").default("STANDARD"),
    row("S3_SSE", "Encryption by the store: AES256 or aws:kms; with S3_SSE_C the algorithm of the customer key (AES256)."),
    row("S3_SSE_KMS_ID", "The key of S3_SSE=aws:kms."),
    row("S3_SSE_C", "The customer key: 32 characters, or 32 bytes in base64.").secret(),
    row("S3_MAX_PART_SIZE", "The largest part of an upload in bytes; parts are smaller where the memory limit asks for it, and larger for an object known to need more than 10,000 of them. At least 5 MiB is used.")
        .kind(Type::Size).default("20971520"),
    row("UPLOAD_CONCURRENCY", "The most parts that are uploaded at once, over all objects; fewer where the memory limit asks for it.")
        .kind(COUNT).default("16"),
    row("S3_MAX_RETRIES", "How many times a request is sent again after a passing error.").kind(Type::Int(0, 1000)).default("15"),
    row("S3_MIN_THROTTLING_RETRY_DELAY", "The first wait after the store asked to slow down, in milliseconds.").kind(Type::Int(0, 3_600_000)).default("500"),
    row("S3_MAX_THROTTLING_RETRY_DELAY", "The longest wait after the store asked to slow down, in milliseconds.").kind(Type::Int(0, 3_600_000)).default("300000"),
    row("S3_RANGE_BATCH_ENABLED", "Interrupted reads are always resumed; accepted for compatibility.").kind(Type::Bool).default("true"),
    row("S3_RANGE_MAX_RETRIES", "How many times an interrupted read is resumed.").kind(Type::Int(0, 1000)).default("10"),
    row("S3_USE_LIST_OBJECTS_V1", "List with the first version of the call, for stores that lack the second.").kind(Type::Bool).default("false"),
    row("S3_DELETE_BATCH_SIZE", "The most objects that one request deletes; 1 to 1000.").kind(Type::Int(-1, i64::MAX)).default("1000"),
    row("S3_ENABLE_VERSIONING", "With `enabled`, deleting an object deletes all its versions; otherwise the bucket's own rules apply.")
        .kind(Type::Choice(&["", "enabled", "disabled"])),
    row("S3_RETENTION_PERIOD", "For how many seconds an uploaded object is locked; -1 is not at all.").kind(Type::Int(-1, i64::MAX)).default("-1"),
    row("S3_RETENTION_MODE", "The mode of the lock.").kind(Type::Choice(&["GOVERNANCE", "COMPLIANCE"])).default("GOVERNANCE"),
    row("S3_SKIP_VALIDATION", "Do not list the bucket once when the store is opened.").kind(Type::Bool).default("true"),
    row("S3_LOG_LEVEL", "DEVEL logs every request."),
    row("S3_DISABLE_100_CONTINUE", "Walport never sends Expect: 100-continue; accepted for compatibility.").kind(Type::Bool).default("false"),
    row("S3_REQUEST_ADDITIONAL_HEADERS", "Headers that are added to every request: a map, or a list of maps.").secret(),
    row("S3_USE_YC_SESSION_TOKEN", "Not supported: the store refuses to open with it.").kind(Type::Bool).default("false"),
    row("S3_ENDPOINT_SOURCE", "Not supported: the store refuses to open with it."),
    row("S3_ENDPOINT_PORT", "Belongs to S3_ENDPOINT_SOURCE.").kind(Type::Int(1, 65535)).default("443"),
    row("S3_ENDPOINT_PROTOCOL", "Belongs to S3_ENDPOINT_SOURCE."),
];

/// How the store checks a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Not at all, beyond what TLS does.
    None,
    /// The signature covers the bytes.
    Sha256,
    /// A CRC-32 in a header.
    Crc32,
    /// An MD5 in a header.
    Md5,
}

/// Which writes honour If-None-Match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// All of them.
    Yes,
    /// Those of one request, not the completion of a multipart upload.
    Puts,
    /// None.
    No,
}

/// Encryption by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// As the bucket says.
    Bucket,
    /// With a key of the store's: the algorithm, and the id of a KMS key.
    Server(String, Option<String>),
}

/// A customer key, as the three values of its headers.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    pub algorithm: String,
    pub key: String,
    pub md5: String,
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomerKey(hidden)")
    }
}

/// Where the store is. The region of AWS may still be unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// AWS, with or without IPv6.
    Aws {
        /// Use the dual-stack names.
        dual_stack: bool,
    },
    /// Another store.
    Custom {
        /// `http` or `https`.
        scheme: String,
        /// Host, and port where it is not the scheme's own.
        authority: String,
        /// What goes before the bucket or the key; empty, or with a leading slash.
        path: String,
    },
}

/// Everything there is to know about one S3 store.
#[derive(Debug, Clone)]
pub struct Config {
    pub bucket: String,
    /// Before every key: empty, or with a final slash.
    pub root: String,
    pub endpoint: Endpoint,
    pub region: Option<String>,
    pub path_style: bool,
    pub checksum: Checksum,
    pub conditional: Conditional,
    pub storage_class: Option<String>,
    /// The class was asked for, and not the default.
    pub class_is_set: bool,
    pub sse: Sse,
    pub customer_key: Option<CustomerKey>,
    pub tags: Vec<(String, String)>,
    pub retention: Option<Duration>,
    pub retention_mode: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub ca_files: Vec<PathBuf>,
    pub part: u64,
    pub in_flight: usize,
    pub list_v1: bool,
    pub delete_batch: usize,
    pub delete_versions: bool,
    pub validate: bool,
    pub retries: u32,
    pub throttle: (Duration, Duration),
    /// Above this, an object is copied in parts.
    pub copy_limit: u64,
    /// The parts of such a copy.
    pub copy_part: u64,
}

struct Preset {
    path_style: bool,
    checksum: Option<Checksum>,
    conditional: Conditional,
    region: Option<&'static str>,
}

fn preset(name: Option<&str>) -> Preset {
    let plain =
        Preset { path_style: false, checksum: None, conditional: Conditional::Yes, region: None };
    match name {
        Some("aws") => Preset { checksum: Some(Checksum::Crc32), ..plain },
        Some("minio") => Preset { path_style: true, checksum: Some(Checksum::Crc32), ..plain },
        Some("ceph") => Preset {
            path_style: true,
            checksum: Some(Checksum::Sha256),
            conditional: Conditional::Puts,
            ..plain
        },
        Some("r2") => Preset {
            path_style: true,
            conditional: Conditional::Puts,
            region: Some("auto"),
            ..plain
        },
        Some("b2") => Preset {
            path_style: true,
            checksum: Some(Checksum::Sha256),
            conditional: Conditional::No,
            ..plain
        },
        _ => plain,
    }
}

fn wrong(message: impl Into<String>, hint: &str) -> Error {
    Error::new(Kind::Config, message).with_hint(hint)
}

fn trimmed<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.text(name).map(str::trim).filter(|text| !text.is_empty())
}

impl Config {
    /// What `settings` say about the store at `target`.
    #[allow(clippy::too_many_lines)] // one line for each setting, and no branch that could be a function
    pub fn load(target: &str, settings: &Settings, budget: &Budget, retries: u32) -> Result<Self> {
        for name in ["S3_ENDPOINT_SOURCE", "S3_USE_YC_SESSION_TOKEN"] {
            if settings.is_set(name)
                && !matches!(trimmed(settings, name), None | Some("false" | "0" | "no" | "off"))
            {
                return Err(wrong(
                    format!("{name} is not supported"),
                    "Remove it, and name the store with AWS_ENDPOINT.",
                ));
            }
        }
        let (bucket, root) = split_target(target)?;
        let name = trimmed(settings, "WALPORT_S3_PRESET").map(str::to_ascii_lowercase);
        let preset = preset(name.as_deref());
        let endpoint = match trimmed(settings, "AWS_ENDPOINT") {
            Some(text) => custom(text)?,
            None if matches!(name.as_deref(), None | Some("aws")) => {
                Endpoint::Aws { dual_stack: settings.flag("AWS_DUAL_STACK") }
            }
            None => {
                return Err(wrong(
                    "AWS_ENDPOINT is not set, and the preset is not aws",
                    "Set AWS_ENDPOINT to the address of the store.",
                ));
            }
        };
        let region = match (trimmed(settings, "AWS_REGION"), &endpoint) {
            (Some(region), _) => Some(region.to_owned()),
            (None, Endpoint::Aws { .. }) => None,
            (None, Endpoint::Custom { authority, .. }) => Some(
                preset.region.or_else(|| region_of_b2(authority)).unwrap_or("us-east-1").to_owned(),
            ),
        };
        let (secure, plain_host) = match &endpoint {
            Endpoint::Aws { .. } => (true, false),
            Endpoint::Custom { scheme, authority, .. } => {
                (scheme == "https", has_no_domains(authority))
            }
        };
        let path_style = if settings.is_set("AWS_S3_FORCE_PATH_STYLE") {
            settings.flag("AWS_S3_FORCE_PATH_STYLE")
        } else {
            preset.path_style
        };
        let (sse, customer_key) = encryption(settings)?;
        let retention = settings
            .number("S3_RETENTION_PERIOD")
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| *n > 0);
        let checksum = checksum(
            settings,
            &preset,
            secure,
            retention.is_some(),
            matches!(endpoint, Endpoint::Aws { .. }),
        );
        let part = part_size(settings, budget);
        let most = settings.number("UPLOAD_CONCURRENCY").unwrap_or(16).clamp(1, 1024) as u64;
        let copy_limit = settings.size("WALPORT_S3_COPY_LIMIT").unwrap_or(MAX_PART).min(MAX_PART);
        let millis = |name, default: u64| {
            Duration::from_millis(settings.number(name).map_or(default, |n| n as u64))
        };
        Ok(Self {
            // A certificate for *.s3.amazonaws.com does not cover a name with dots.
            path_style: path_style
                || plain_host
                || (secure && bucket.contains('.'))
                || bucket.contains('_'),
            bucket,
            root,
            endpoint,
            region,
            checksum,
            conditional: match trimmed(settings, "WALPORT_S3_CONDITIONAL")
                .map(str::to_ascii_lowercase)
                .as_deref()
            {
                Some("yes") => Conditional::Yes,
                Some("puts") => Conditional::Puts,
                Some("no") => Conditional::No,
                _ => preset.conditional,
            },
            storage_class: trimmed(settings, "S3_STORAGE_CLASS").map(str::to_owned),
            class_is_set: settings.is_set("S3_STORAGE_CLASS"),
            sse,
            customer_key,
            tags: tags(settings)?,
            retention: retention.map(Duration::from_secs),
            retention_mode: trimmed(settings, "S3_RETENTION_MODE")
                .unwrap_or("GOVERNANCE")
                .to_ascii_uppercase(),
            headers: headers(settings)?,
            ca_files: ["S3_CA_CERT_FILE", "AWS_CA_BUNDLE"]
                .iter()
                .filter_map(|name| trimmed(settings, name))
                .map(PathBuf::from)
                .collect(),
            part,
            in_flight: (budget.limit() / part).clamp(1, most) as usize,
            list_v1: settings.flag("S3_USE_LIST_OBJECTS_V1"),
            delete_batch: settings
                .number("S3_DELETE_BATCH_SIZE")
                .filter(|n| *n > 0)
                .unwrap_or(1000)
                .min(1000) as usize,
            delete_versions: trimmed(settings, "S3_ENABLE_VERSIONING")
                .is_some_and(|text| text.eq_ignore_ascii_case("enabled")),
            validate: !settings.flag("S3_SKIP_VALIDATION"),
            retries,
            throttle: (
                millis("S3_MIN_THROTTLING_RETRY_DELAY", 500),
                millis("S3_MAX_THROTTLING_RETRY_DELAY", 300_000),
            ),
            copy_limit,
            copy_part: copy_limit.clamp(MIN_PART, 512 << 20),
        })
    }

    /// Scheme, authority and base path of the bucket, in `region`.
    pub fn address(&self, region: &str) -> (String, String, String) {
        let (scheme, host, mut path) = match &self.endpoint {
            Endpoint::Aws { dual_stack } => {
                let stack = if *dual_stack { "dualstack." } else { "" };
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                (
                    "https".to_owned(),
                    format!("s3.{stack}{region}.amazonaws.com{china}"),
                    String::new(),
                )
            }
            Endpoint::Custom { scheme, authority, path } => {
                (scheme.clone(), authority.clone(), path.clone())
            }
        };
        if self.path_style {
            path.push('/');
            path.push_str(&self.bucket);
            (scheme, host, path)
        } else {
            (scheme, format!("{}.{host}", self.bucket), path)
        }
    }
}

/// An eighth of the budget per part, so that an upload has some of them on their
/// way while the next one fills.
fn part_size(settings: &Settings, budget: &Budget) -> u64 {
    let most = settings.size("S3_MAX_PART_SIZE").unwrap_or(20 << 20).clamp(MIN_PART, MAX_PART);
    let share = budget.limit() / 8 / CHUNK as u64 * CHUNK as u64;
    share.clamp(MIN_PART, most)
}

fn checksum(
    settings: &Settings,
    preset: &Preset,
    secure: bool,
    locked: bool,
    aws: bool,
) -> Checksum {
    let chosen =
        match trimmed(settings, "WALPORT_S3_CHECKSUM").map(str::to_ascii_lowercase).as_deref() {
            Some("sha256") => Checksum::Sha256,
            Some("crc32") => Checksum::Crc32,
            Some("md5") => Checksum::Md5,
            Some("none") => Checksum::None,
            _ => match preset.checksum {
                Some(checksum) => checksum,
                None if aws => Checksum::Crc32,
                None if secure => Checksum::None,
                None => Checksum::Sha256,
            },
        };
    // A locked object must come with a checksum in a header.
    if locked && matches!(chosen, Checksum::None | Checksum::Sha256) {
        Checksum::Md5
    } else {
        chosen
    }
}

fn split_target(target: &str) -> Result<(String, String)> {
    let rest = target.strip_prefix("s3://").unwrap_or(target);
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(legal) {
        return Err(wrong(format!("{target:?} names no bucket"), "Write s3://bucket/path."));
    }
    let path = path.trim_matches('/');
    let root = if path.is_empty() { String::new() } else { format!("{path}/") };
    Ok((bucket.to_owned(), root))
}

fn custom(text: &str) -> Result<Endpoint> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: http::Uri = text.parse().map_err(|error| {
        wrong(
            format!("AWS_ENDPOINT {text:?} is not an address: {error}"),
            "Write https://host:port.",
        )
    })?;
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let (Some(authority), true) = (uri.authority(), matches!(scheme.as_str(), "http" | "https"))
    else {
        return Err(wrong(
            format!("AWS_ENDPOINT {text:?} is not an address"),
            "Write https://host:port.",
        ));
    };
    if authority.as_str().contains('@') {
        return Err(wrong(
            "AWS_ENDPOINT holds a user name",
            "Give credentials with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        ));
    }
    // A port that is the scheme's own is not part of the Host header.
    let own = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.as_str().strip_suffix(own).unwrap_or(authority.as_str()).to_owned();
    Ok(Endpoint::Custom { scheme, authority, path: uri.path().trim_end_matches('/').to_owned() })
}

fn has_no_domains(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost")
}

/// `s3.us-west-004.backblazeb2.com` is in the region `us-west-004`.
fn region_of_b2(authority: &str) -> Option<&str> {
    authority.strip_suffix(".backblazeb2.com")?.rsplit('.').next()
}

fn encryption(settings: &Settings) -> Result<(Sse, Option<CustomerKey>)> {
    let algorithm = trimmed(settings, "S3_SSE");
    let kms = trimmed(settings, "S3_SSE_KMS_ID");
    if let Some(key) = trimmed(settings, "S3_SSE_C") {
        let raw = match key.len() {
            32 => key.as_bytes().to_vec(),
            _ => STANDARD.decode(key).ok().filter(|raw| raw.len() == 32).ok_or_else(|| {
                wrong(
                    "S3_SSE_C is not a key",
                    "A customer key is 32 characters, or 32 bytes in base64.",
                )
            })?,
        };
        let key = CustomerKey {
            algorithm: algorithm.unwrap_or("AES256").to_owned(),
            key: STANDARD.encode(&raw),
            md5: STANDARD.encode(Md5::digest(&raw)),
        };
        return Ok((Sse::Bucket, Some(key)));
    }
    match (algorithm, kms) {
        (None, None) => Ok((Sse::Bucket, None)),
        (Some("AES256"), None) => Ok((Sse::Server("AES256".to_owned(), None), None)),
        (Some(kind @ ("aws:kms" | "aws:kms:dsse")), Some(id)) => {
            Ok((Sse::Server(kind.to_owned(), Some(id.to_owned())), None))
        }
        (Some("aws:kms" | "aws:kms:dsse"), None) => Err(wrong(
            "S3_SSE=aws:kms without S3_SSE_KMS_ID",
            "Set S3_SSE_KMS_ID to the id of the key.",
        )),
        (_, Some(_)) => Err(wrong(
            "S3_SSE_KMS_ID without S3_SSE=aws:kms",
            "Set S3_SSE=aws:kms, or remove S3_SSE_KMS_ID.",
        )),
        (Some(other), None) => Err(wrong(
            format!("S3_SSE must be AES256 or aws:kms, not {other:?}"),
            "See docs/settings.md.",
        )),
    }
}

fn tags(settings: &Settings) -> Result<Vec<(String, String)>> {
    let Some(text) = trimmed(settings, "WALPORT_S3_TAGS") else { return Ok(Vec::new()) };
    pairs(text).ok_or_else(|| {
        wrong("WALPORT_S3_TAGS is not a map of texts", "Write {\"name\": \"value\"}.")
    })
}

fn headers(settings: &Settings) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let Some(text) = trimmed(settings, "S3_REQUEST_ADDITIONAL_HEADERS") else {
        return Ok(Vec::new());
    };
    let wrong = || {
        wrong(
            "S3_REQUEST_ADDITIONAL_HEADERS is not a map of headers",
            "Write one `Name: value` per line, or {\"Name\": \"value\"}.",
        )
    };
    let list = pairs(text).or_else(|| lines(text)).ok_or_else(wrong)?;
    list.into_iter()
        .map(|(name, value)| {
            let name = name.parse::<HeaderName>().map_err(|_| wrong())?;
            Ok((name, value.parse::<HeaderValue>().map_err(|_| wrong())?))
        })
        .collect()
}

/// A JSON map, or a list of such maps.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    use serde_json::Value;
    fn map(value: &Value) -> Option<Vec<(String, String)>> {
        value
            .as_object()?
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => return None,
                };
                Some((name.clone(), text))
            })
            .collect()
    }
    match serde_json::from_str(text).ok()? {
        Value::Array(maps) => Some(maps.iter().map(map).collect::<Option<Vec<_>>>()?.concat()),
        value => map(&value),
    }
}

/// The part of YAML that a map of headers is written in: `Name: value` lines,
/// with or without the dash of a list.
fn lines(text: &str) -> Option<Vec<(String, String)>> {
    text.lines()
        .map(|line| line.trim().trim_start_matches("- ").trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            Some((bare(name), bare(value)))
        })
        .collect()
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
        let config = load("s3://bucket/some/path/", values).unwrap();
        assert_eq!(config.root, "some/path/");
        let region = config.region.clone().unwrap_or_else(|| "eu-central-1".to_owned());
        let (scheme, host, path) = config.address(&region);
        format!("{scheme}://{host}{path} {region}")
    }

    #[test]
    fn addresses_follow_the_style_of_the_store() {
        assert_eq!(address(&[]), "https://bucket.s3.eu-central-1.amazonaws.com eu-central-1");
        assert_eq!(
            address(&[("AWS_REGION", "cn-north-1"), ("AWS_DUAL_STACK", "true")]),
            "https://bucket.s3.dualstack.cn-north-1.amazonaws.com.cn cn-north-1"
        );
        assert_eq!(
            address(&[("WALG_AWS_ENDPOINT", "store.example:9000")]),
            "https://bucket.store.example:9000 us-east-1"
        );
        assert_eq!(
            address(&[("AWS_ENDPOINT", "http://127.0.0.1:9000")]),
            "http://127.0.0.1:9000/bucket us-east-1"
        );
        assert_eq!(
            address(&[
                ("AWS_ENDPOINT", "https://store.example:443/s3/"),
                ("AWS_S3_FORCE_PATH_STYLE", "true")
            ]),
            "https://store.example/s3/bucket us-east-1"
        );
        assert_eq!(
            address(&[
                ("AWS_ENDPOINT", "s3.us-west-004.backblazeb2.com"),
                ("WALPORT_S3_PRESET", "b2")
            ]),
            "https://s3.us-west-004.backblazeb2.com/bucket us-west-004"
        );
        assert_eq!(
            address(&[("AWS_ENDPOINT", "x.r2.cloudflarestorage.com"), ("WALPORT_S3_PRESET", "r2")]),
            "https://x.r2.cloudflarestorage.com/bucket auto"
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (target, values) in [
            ("s3:///path", &[][..]),
            ("s3://b", &[("AWS_ENDPOINT", "ftp://x")][..]),
            ("s3://b", &[("AWS_ENDPOINT", "https://user:secret@x")]),
            ("s3://b", &[("WALPORT_S3_PRESET", "minio")]),
            ("s3://b", &[("S3_SSE", "aws:kms")]),
            ("s3://b", &[("S3_SSE", "rot13")]),
            ("s3://b", &[("S3_SSE_C", "short")]),
            ("s3://b", &[("S3_REQUEST_ADDITIONAL_HEADERS", "no colon")]),
            ("s3://b", &[("S3_ENDPOINT_SOURCE", "http://x")]),
        ] {
            let error = load(target, values).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{target} {values:?}");
            assert!(error.hint().is_some(), "{target} {values:?}");
        }
    }

    #[test]
    fn headers_are_read_as_yaml_and_as_json() {
        for text in [
            "X-A: 1\nX-B: two",
            "- X-A: 1\n- \"X-B\": \"two\"",
            r#"{"X-A": 1, "X-B": "two"}"#,
            r#"[{"X-A": "1"}, {"X-B": "two"}]"#,
        ] {
            let config = load("s3://b", &[("S3_REQUEST_ADDITIONAL_HEADERS", text)]).unwrap();
            let shown: Vec<_> = config
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                .collect();
            assert_eq!(shown, ["x-a=1", "x-b=two"], "{text}");
        }
    }

    #[test]
    fn parts_follow_the_budget() {
        let at = |limit: u64| {
            let settings = Settings::new(Arc::new(Table::new(SETTINGS)));
            let config = Config::load("s3://b", &settings, &Budget::new(limit), 0).unwrap();
            (config.part, config.in_flight)
        };
        assert_eq!(at(6 << 20), (5 << 20, 1));
        assert_eq!(at(64 << 20), (8 << 20, 8));
        assert_eq!(at(1 << 40), (20 << 20, 16));
    }

    #[test]
    fn a_locked_object_has_a_checksum_in_a_header() {
        let of = |values: &[(&str, &str)]| load("s3://b", values).unwrap().checksum;
        assert_eq!(of(&[]), Checksum::Crc32);
        assert_eq!(of(&[("AWS_ENDPOINT", "http://h")]), Checksum::Sha256);
        assert_eq!(of(&[("AWS_ENDPOINT", "https://h")]), Checksum::None);
        assert_eq!(
            of(&[("AWS_ENDPOINT", "https://h"), ("S3_RETENTION_PERIOD", "60")]),
            Checksum::Md5
        );
    }
}
