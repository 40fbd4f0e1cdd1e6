//! What every job gets: the configuration, the store, the codecs, the memory.

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
    /// The store that is read and written, all policies around it.
    pub store: Store,
    /// The name of the store: `default`, or that of a failover storage.
    pub store_name: String,
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
