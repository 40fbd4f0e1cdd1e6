//! Google Cloud Storage over its JSON API. Requests are built here and sent by
//! the shared HTTP client; `docs/decisions/gcs.md` says why.

mod client;
mod copy;
mod crc;
mod credentials;
mod delete;
mod errors;
mod list;
mod session;
mod settings;
mod store;
mod upload;

use std::sync::Arc;

use futures_util::FutureExt;
use walport_engine::storage::{Backend, Store};

pub use settings::SETTINGS;
pub use store::Gcs;

/// Google Cloud Storage as the registry knows it.
pub const BACKEND: Backend = Backend {
    scheme: "gs",
    prefix: "WALG_GS_PREFIX",
    plain_path: false,
    settings: SETTINGS,
    open: |open| async move { Ok(Arc::new(Gcs::open(open).await?) as Store) }.boxed(),
};
