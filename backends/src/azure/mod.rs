//! Azure Blob Storage. Requests are built and signed here and sent by the
//! shared HTTP client; `docs/decisions/azure.md` says why.

mod client;
mod copy;
mod credentials;
mod delete;
mod errors;
mod list;
mod settings;
mod sign;
mod store;
mod upload;

use std::sync::Arc;

use futures_util::FutureExt;
use walport_engine::storage::{Backend, Store};

pub use settings::SETTINGS;
pub use store::Azure;

/// Azure as the registry knows it.
pub const BACKEND: Backend = Backend {
    scheme: "azure",
    prefix: "WALG_AZ_PREFIX",
    plain_path: false,
    settings: SETTINGS,
    open: |open| async move { Ok(Arc::new(Azure::open(open).await?) as Store) }.boxed(),
};
