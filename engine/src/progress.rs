//! How far a running backup or restore has come, for whoever wants to show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes done of bytes expected. Cloning shares the counters.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    done: AtomicU64,
    watched: AtomicBool,
}

impl Progress {
    /// Nothing done of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody looks, so that work to find out the total is worth it.
    pub fn watch(&self) {
        self.0.watched.store(true, Ordering::Relaxed);
    }

    /// Whether somebody looks.
    pub fn is_watched(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed)
    }

    /// More bytes are expected.
    pub fn add_total(&self, bytes: u64) {
        self.0.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// More bytes are done.
    pub fn add_done(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes expected; 0 while that is unknown.
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Bytes done.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }
}
