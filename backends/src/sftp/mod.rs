//! The SFTP store: objects are files of a server that is reached over SSH.
//!
//! One connection carries everything. Reads and writes are pipelined, so that a
//! distant server is not slower than its line; a file is written under a
//! temporary name that listings hide, synced where the server can, and renamed.

mod config;
mod connect;
mod delete;
mod errors;
mod get;
mod list;
mod put;
mod settings;
mod store;

use futures_util::FutureExt;
use walport_engine::storage::{Backend, Open, Result, Store};

pub use settings::SETTINGS;
pub use store::SftpStore;

/// What the registry knows of this store.
pub const BACKEND: Backend = Backend {
    scheme: "ssh",
    prefix: settings::PREFIX,
    plain_path: false,
    settings: SETTINGS,
    open: |open: Open<'_>| {
        async move {
            let config = config::Config::new(open.target, open.settings)?;
            let store = SftpStore::open(config).await?;
            Ok(std::sync::Arc::new(store) as Store) as Result<Store>
        }
        .boxed()
    },
};
