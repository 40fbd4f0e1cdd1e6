//! The registry: which scheme opens which store.
//!
//! A backend of one's own is one [`Backend`] value more. Nothing else in
//! Walport names a store.

use futures_util::future::BoxFuture;

use super::{Error, Kind, Result, Store};
use crate::memory::Budget;
use crate::settings::{Setting, Settings};

/// What a backend gets to open itself.
#[derive(Debug, Clone)]
pub struct Open<'a> {
    /// The target as the user wrote it: `s3://bucket/path`, `/srv/backups`.
    pub target: &'a str,
    /// The effective settings.
    pub settings: &'a Settings,
    /// The memory every buffer is drawn from.
    pub budget: &'a Budget,
    /// How many times a request, or a part that is still held in memory, is
    /// sent again after a transient error: 0 under the conformance suite.
    pub retries: u32,
}

/// A function that opens a store.
pub type OpenFn = for<'a> fn(Open<'a>) -> BoxFuture<'a, Result<Store>>;

/// One kind of store.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    /// The scheme of its URLs, without `://`: `s3`. A final `+` takes a second
    /// scheme after it: `opendal+` opens `opendal+webdav://...`.
    pub scheme: &'static str,
    /// The setting that names its target: `WALG_S3_PREFIX`.
    pub prefix: &'static str,
    /// Whether a target of the prefix setting may be a plain path.
    pub plain_path: bool,
    /// Its rows of the settings table.
    pub settings: &'static [Setting],
    /// Opens it.
    pub open: OpenFn,
}

/// The stores this program knows, in the order in which WAL-G looks for their
/// prefix settings.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backends: Vec<Backend>,
}

impl Registry {
    /// A registry with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a store; one of the same scheme is replaced.
    pub fn with(mut self, backend: Backend) -> Self {
        self.backends.retain(|known| known.scheme != backend.scheme);
        self.backends.push(backend);
        self
    }

    /// The stores, in order.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Every setting of every store.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + '_ {
        self.backends.iter().flat_map(|backend| backend.settings)
    }

    /// The store that opens `url`.
    pub fn by_url(&self, url: &str) -> Result<&Backend> {
        let scheme = url.split_once("://").map_or("file", |(scheme, _)| scheme);
        self.backends
            .iter()
            .find(|backend| {
                backend.scheme == scheme
                    || (backend.scheme.ends_with('+') && scheme.starts_with(backend.scheme))
            })
            .ok_or_else(|| {
                let known: Vec<_> = self.backends.iter().map(|backend| backend.scheme).collect();
                Error::new(Kind::Config, format!("no store opens the scheme {scheme:?}"))
                    .with_hint(format!("This program knows: {}.", known.join(", ")))
            })
    }

    /// The first store whose prefix setting is set, with its target, or `None`.
    pub fn primary<'a>(&self, settings: &'a Settings) -> Option<(&Backend, &'a str)> {
        self.backends
            .iter()
            .find_map(|backend| settings.text(backend.prefix).map(|target| (backend, target)))
    }
}
