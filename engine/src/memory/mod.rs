//! The memory budget: the one limit that every buffer is drawn from.
//!
//! A [`Budget`] is bytes that may be held. A [`Pool`] takes its share of the
//! budget once, before work begins, and then hands out reused chunks; who asks
//! for more waits. So the peak is known from the plan and does not depend on
//! the number of files or uploads.

pub mod plan;
mod pool;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};

pub use plan::{Operation, Plan};
pub use pool::{Chunk, Pool};

/// The bytes of one chunk, the unit in which data moves: 256 KiB.
pub const CHUNK: usize = 256 << 10;

/// The bytes that may be held in buffers, shared by the whole process.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }

    /// Takes `bytes` out of the budget until the reservation is dropped.
    ///
    /// Fails with [`Kind::Memory`], naming `what` and the smallest limit that
    /// would do, if they are not there. It never waits.
    pub fn reserve(&self, bytes: u64, what: &str) -> Result<Reservation> {
        let inner = &self.0;
        let mut used = inner.used.load(Ordering::Relaxed);
        loop {
            let wanted = used.saturating_add(bytes);
            if wanted > inner.limit {
                return Err(Error::new(
                    Kind::Memory,
                    format!(
                        "{what} needs {} MiB, but {} of {} MiB for buffers are in use",
                        mib(bytes),
                        mib(used),
                        mib(inner.limit)
                    ),
                )
                .with_hint(format!(
                    "Raise WALPORT_MEMORY_LIMIT by at least {} MiB, or lower the concurrency.",
                    mib(wanted - inner.limit)
                )));
            }
            match inner.used.compare_exchange_weak(
                used,
                wanted,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    inner.peak.fetch_max(wanted, Ordering::Relaxed);
                    return Ok(Reservation { budget: self.clone(), bytes });
                }
                Err(now) => used = now,
            }
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes that are not reserved.
    pub fn free(&self) -> u64 {
        self.0.limit.saturating_sub(self.0.used.load(Ordering::Relaxed))
    }

    /// The most bytes that were reserved at one time.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }
}

/// Bytes taken out of a budget; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// The bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// MiB, rounded up.
pub fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_budget_is_a_limit_that_returns_errors() {
        let budget = Budget::new(100);
        let first = budget.reserve(60, "a test").unwrap();
        let error = budget.reserve(50, "a test").unwrap_err();
        assert_eq!(error.kind(), Kind::Memory);
        drop(first);
        assert_eq!(budget.free(), 100);
        assert_eq!(budget.peak(), 60);
        assert!(budget.reserve(100, "a test").is_ok());
    }
}
