//! What every job gets: the configuration, the store, the codecs, the memory.

use std::sync::Arc;

use crate::codec::Codecs;
use crate::error::Result;
use crate::memory::{Budget, CHUNK, Plan, Pool};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::storage::{Put, Store};

/// Everything a job needs, made once per command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The effective settings.
    pub settings: Settings,
    /// The store that is read and written, all policies around it. With several
    /// storages in use, all of them read as one.
    pub store: Store,
    /// The storages in use by name, at least one, in their order: `default`,
    /// then those to fall back to.
    pub storages: Vec<(String, Store)>,
    /// Compressors and cipher.
    pub codecs: Codecs,
    /// The memory for buffers.
    pub budget: Budget,
    /// How the memory is divided.
    pub plan: Plan,
    /// How far a backup or restore has come.
    pub progress: Progress,
}

impl Context {
    /// The name of the storage that is written to.
    pub fn store_name(&self) -> &str {
        self.storages.first().map_or("default", |(name, _)| name)
    }

    /// The same with the storage `name` alone: a backup never spans storages.
    pub fn within(&self, name: &str) -> Self {
        let mut one = self.clone();
        one.storages.retain(|(own, _)| own == name);
        if let Some((_, store)) = one.storages.first() {
            one.store = Arc::clone(store);
        }
        one
    }

    /// The chunks of one upload to the store of this context.
    pub fn upload_pool(&self) -> Result<Pool> {
        let chunks = self.plan.upload_chunks(self.store.limits())?;
        Pool::new(&self.budget, CHUNK, chunks, "an upload")
    }

    /// How to store an object whose chunks come out of `pool`.
    pub fn put(&self, pool: &Pool) -> Put {
        Put { window: Some((pool.size() * pool.count()) as u64), ..Put::default() }
    }
}
