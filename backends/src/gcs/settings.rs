//! The settings of Google Cloud Storage, and what follows from them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::memory::{Budget, CHUNK};
use walport_engine::settings::{Setting, Settings, Type};

use crate::http::parts::Bounds;

/// The largest object.
pub const MAX_OBJECT: u64 = 5 << 40;

const GROUP: &str = "GCS";

const fn row(name: &'static str, help: &'static str) -> Setting {
    Setting::new(name, GROUP, help).namespaced()
}

/// The rows of Google Cloud Storage.
pub const SETTINGS: &[Setting] = &[
    row("WALG_GS_PREFIX", "Where backups and WAL are kept: gs://bucket/path."),
    row("GOOGLE_APPLICATION_CREDENTIALS", "The file with the credentials: of a service account, of a user, or of an external account. Without it, gcloud's own file is used, and then the metadata server of the host.").kind(Type::Path),
    row("CLOUDSDK_CONFIG", "The folder in which gcloud keeps application_default_credentials.json; ~/.config/gcloud if it is not set.").kind(Type::Path),
    row("GCE_METADATA_HOST", "The metadata server that gives out the tokens of the host's service account.").default("metadata.google.internal"),
    row("WALPORT_GCS_ENDPOINT", "The address of the store, for emulators, private access and proxies: https://host[:port].").aliases(&["STORAGE_EMULATOR_HOST"]),
    row("WALPORT_GCS_ANONYMOUS", "Send no credentials. The default is true where STORAGE_EMULATOR_HOST is set and GOOGLE_APPLICATION_CREDENTIALS is not.").kind(Type::Bool),
    row("WALPORT_GCS_CA_FILE", "A file of PEM certificates that are trusted besides those of the system.").kind(Type::Path),
    row("WALPORT_GCS_STORAGE_CLASS", "The storage class of new objects: STANDARD, NEARLINE, COLDLINE or ARCHIVE. Without it, that of the bucket."),
    row("WALPORT_GCS_KMS_KEY", "The Cloud KMS key of new objects: projects/P/locations/L/keyRings/R/cryptoKeys/K. Without it, that of the bucket."),
    row("WALPORT_GCS_USER_PROJECT", "The project that pays for requests to a bucket where the requester pays."),
    row("GCS_ENCRYPTION_KEY", "A customer key: 32 bytes in base64. Objects are written and read with it, and cannot be read without it.").secret(),
    row("GCS_NORMALIZE_PREFIX", "Whether slashes at both ends of the path in the prefix are removed; false keeps all but the first, as WAL-E did.").kind(Type::Bool).default("true"),
    row("GCS_MAX_CHUNK_SIZE", "The largest part of an upload in bytes, a multiple of 256 KiB; smaller where the memory limit asks for it.").kind(Type::Size).default("52428800"),
    row("GCS_MAX_RETRIES", "How many times a request is sent in all, after errors that pass. Without it, the engine's own limit holds.").kind(Type::Int(0, 1000)),
    row("GCS_CONTEXT_TIMEOUT", "Seconds. Requests have no total deadline; a connection on which nothing moves is given up by the engine's own limit.").kind(Type::Int(0, i64::MAX)).default("3600").pending(),
];

/// A customer key, as the values of its headers.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    pub key: String,
    pub sha256: String,
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomerKey(hidden)")
    }
}

/// Everything there is to know about one bucket.
#[derive(Debug, Clone)]
pub struct Config {
    pub bucket: String,
    /// Before every key: empty, or with a final slash.
    pub root: String,
    /// Scheme and authority of the store.
    pub endpoint: String,
    /// The store is not Google's own.
    pub custom: bool,
    pub storage_class: Option<String>,
    pub kms_key: Option<String>,
    pub user_project: Option<String>,
    pub customer_key: Option<CustomerKey>,
    pub ca_files: Vec<PathBuf>,
    pub bounds: Bounds,
    pub retries: u32,
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
        let (bucket, root) = split_target(target, settings.flag("GCS_NORMALIZE_PREFIX"))?;
        let given = trimmed(settings, "WALPORT_GCS_ENDPOINT");
        let unit = CHUNK as u64;
        let part = settings
            .size("GCS_MAX_CHUNK_SIZE")
            .unwrap_or(50 << 20)
            .next_multiple_of(unit)
            .clamp(unit, 1 << 30);
        // Who opens a store without retries means it.
        let asked = settings
            .number("GCS_MAX_RETRIES")
            .filter(|_| retries > 0)
            .map(|tries| (tries - 1).max(0) as u32);
        Ok(Self {
            bucket,
            root,
            endpoint: given
                .map_or_else(|| Ok("https://storage.googleapis.com".to_owned()), split_endpoint)?,
            custom: given.is_some(),
            storage_class: trimmed(settings, "WALPORT_GCS_STORAGE_CLASS").map(str::to_owned),
            kms_key: trimmed(settings, "WALPORT_GCS_KMS_KEY").map(str::to_owned),
            user_project: trimmed(settings, "WALPORT_GCS_USER_PROJECT").map(str::to_owned),
            customer_key: trimmed(settings, "GCS_ENCRYPTION_KEY").map(customer_key).transpose()?,
            ca_files: trimmed(settings, "WALPORT_GCS_CA_FILE")
                .map(PathBuf::from)
                .into_iter()
                .collect(),
            bounds: Bounds {
                part,
                max_part: 1 << 30,
                // There is no limit but that of the object.
                max_parts: MAX_OBJECT / unit,
                // The parts of a session come one after the other.
                in_flight: 1,
                memory: budget.limit(),
            },
            retries: asked.unwrap_or(retries),
        })
    }
}

fn split_target(target: &str, normal: bool) -> Result<(String, String)> {
    let rest = target.strip_prefix("gs://").unwrap_or(target);
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(legal) {
        return Err(wrong(format!("{target:?} names no bucket"), "Write gs://bucket/path."));
    }
    let path = if normal { path.trim_matches('/') } else { path };
    let root =
        if path.is_empty() || path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    Ok((bucket.to_owned(), root))
}

fn split_endpoint(text: &str) -> Result<String> {
    const HINT: &str = "Write https://host:port.";
    // An emulator is named without a scheme, and speaks no TLS.
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: http::Uri = full.parse().map_err(|error| {
        wrong(format!("the endpoint {text:?} is not an address: {error}"), HINT)
    })?;
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    // Client libraries are given the path of the API too.
    let path = uri.path().trim_end_matches('/').trim_end_matches("/storage/v1");
    match uri.authority() {
        Some(authority)
            if matches!(scheme.as_str(), "http" | "https")
                && !authority.as_str().contains('@')
                && path.is_empty() =>
        {
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err(wrong("the endpoint is not an address of a host", HINT)),
    }
}

fn customer_key(text: &str) -> Result<CustomerKey> {
    let raw = STANDARD.decode(text).ok().filter(|raw| raw.len() == 32);
    let Some(raw) = raw else {
        return Err(wrong(
            "GCS_ENCRYPTION_KEY is not a key",
            "A customer key is 32 bytes in base64: openssl rand -base64 32.",
        ));
    };
    let sha256 = ring::digest::digest(&ring::digest::SHA256, &raw);
    Ok(CustomerKey { key: STANDARD.encode(&raw), sha256: STANDARD.encode(sha256.as_ref()) })
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
        Config::load(target, &settings, &Budget::new(64 << 20), 3)
    }

    #[test]
    fn targets_and_endpoints_are_understood() {
        for (target, normal, root) in [
            ("gs://box", "true", ""),
            ("gs://box/a/b/", "true", "a/b/"),
            ("gs://box//a//", "true", "a/"),
            ("gs://box//a//", "false", "/a//"),
            ("gs://box/a", "false", "a/"),
        ] {
            assert_eq!(
                load(target, &[("GCS_NORMALIZE_PREFIX", normal)]).unwrap().root,
                root,
                "{target}"
            );
        }
        assert_eq!(load("gs://box", &[]).unwrap().endpoint, "https://storage.googleapis.com");
        for text in
            ["127.0.0.1:4443", "http://127.0.0.1:4443/", "http://127.0.0.1:4443/storage/v1/"]
        {
            let config = load("gs://box", &[("STORAGE_EMULATOR_HOST", text)]).unwrap();
            assert_eq!((config.endpoint.as_str(), config.custom), ("http://127.0.0.1:4443", true));
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (target, values) in [
            ("gs:///path", &[][..]),
            ("gs://box", &[("WALPORT_GCS_ENDPOINT", "ftp://x")][..]),
            ("gs://box", &[("WALPORT_GCS_ENDPOINT", "https://user:secret@x")]),
            ("gs://box", &[("GCS_ENCRYPTION_KEY", "c2VjcmV0")]),
        ] {
            let error = load(target, values).unwrap_err();
            assert!(error.kind() == Kind::Config && error.hint().is_some(), "{target} {values:?}");
            assert!(
                !error.to_string().contains("secret") && !error.to_string().contains("c2VjcmV0")
            );
        }
        assert_eq!(load("gs://box", &[("GCS_MAX_RETRIES", "16")]).unwrap().retries, 15);
    }
}
