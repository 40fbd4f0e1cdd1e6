//! S3 and what speaks like it. Requests are built and signed here and sent by
//! the shared HTTP client; `docs/decisions/s3.md` says why.

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

pub use list::Unfinished;
pub use settings::SETTINGS;
pub use store::S3;

/// S3 as the registry knows it.
pub const BACKEND: Backend = Backend {
    scheme: "s3",
    prefix: "WALG_S3_PREFIX",
    plain_path: false,
    settings: SETTINGS,
    open: |open| async move { Ok(Arc::new(S3::open(open).await?) as Store) }.boxed(),
};
