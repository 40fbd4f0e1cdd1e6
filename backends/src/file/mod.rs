//! The file store: objects are files of a local or mounted file system.
//!
//! An object is written under a temporary name that listings hide, synced,
//! renamed, and its directory synced, so what a reader sees is whole and what
//! was acknowledged survives a power cut.

mod config;
mod copy;
mod delete;
mod dirs;
mod get;
mod list;
mod names;
mod page;
mod put;
mod settings;
mod store;
#[cfg(test)]
mod tests;

use futures_util::FutureExt;
use walport_engine::storage::{Backend, Open, Result, Store};

pub use settings::SETTINGS;
pub use store::FileStore;

/// What the registry knows of this store.
pub const BACKEND: Backend = Backend {
    scheme: "file",
    prefix: settings::PREFIX,
    plain_path: true,
    settings: SETTINGS,
    open: |open: Open<'_>| {
        async move {
            let root = config::root(open.target)?;
            let store = FileStore::open(root, open.budget.clone()).await?;
            Ok(std::sync::Arc::new(store) as Store) as Result<Store>
        }
        .boxed()
    },
};
