//! The archive of WAL: push, fetch, prefetch.

mod ahead;
mod archive;
mod check;
pub mod fetch;
mod marker;
mod metadata;
pub mod prefetch;
pub mod push;
#[cfg(test)]
mod tests;

use crate::settings::Settings;

/// The size of a segment in bytes, by `WALG_PG_WAL_SIZE` (MiB).
pub fn segment_size(settings: &Settings) -> u64 {
    settings.number("WALG_PG_WAL_SIZE").and_then(|mib| u64::try_from(mib).ok()).unwrap_or(16) << 20
}
