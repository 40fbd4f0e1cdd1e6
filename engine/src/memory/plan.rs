//! The plan of a command: how the memory limit is divided before work begins.

use std::thread::available_parallelism;

use super::{CHUNK, mib};
use crate::error::{Error, Kind, Result};
use crate::settings::Settings;
use crate::storage::Limits;

/// What the program itself needs besides buffers, in bytes: its text, the
/// stacks of its threads, the runtime and a TLS session. Measured.
pub const BASE: u64 = 28 << 20;

/// The most bytes one encoder is given: more gains nothing at the default levels.
const ENCODER: u64 = 6 << 20;
/// The least an encoder can work with: lz4 with blocks of 64 KiB.
const ENCODER_MIN: u64 = 1 << 20;
/// What one decoder may hold: the 8 MiB window of WAL-G's zstd and its buffers.
pub const DECODER: u64 = 10 << 20;
/// The most bytes of one upload that are in flight at a time.
const WINDOW: u64 = 24 << 20;

/// What a command is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One WAL file, written.
    WalPush,
    /// One WAL file, read.
    WalFetch,
    /// Many parts, written.
    BackupPush,
    /// Many parts, read.
    BackupFetch,
    /// Lists and small documents.
    Light,
}

/// How the limit is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Bytes for all buffers: the limit less [`BASE`].
    pub buffers: u64,
    /// Bytes one encoder may hold.
    pub encoder: u64,
    /// Threads one encoder or decoder may use.
    pub threads: usize,
    /// Parts that are written at once.
    pub uploads: usize,
    /// Parts that are read at once.
    pub downloads: usize,
}

impl Plan {
    /// Divides `WALPORT_MEMORY_LIMIT` for `operation`.
    ///
    /// Fails with [`Kind::Memory`] and the smallest limit that would do.
    pub fn derive(settings: &Settings, operation: Operation) -> Result<Self> {
        let limit = settings.size("WALPORT_MEMORY_LIMIT").unwrap_or(96 << 20);
        let cores = available_parallelism().map_or(1, usize::from);
        let least = BASE
            + match operation {
                Operation::WalPush | Operation::BackupPush => ENCODER_MIN + (1 << 20),
                Operation::WalFetch | Operation::BackupFetch => DECODER + (1 << 20),
                Operation::Light => 1 << 20,
            };
        if limit < least {
            return Err(Error::new(
                Kind::Memory,
                format!(
                    "WALPORT_MEMORY_LIMIT of {} MiB is too small for this command",
                    limit >> 20
                ),
            )
            .with_hint(format!("The smallest limit that works is {} MiB.", mib(least))));
        }
        let buffers = limit - BASE;
        let number =
            |name| settings.number(name).and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1);
        // Half of the buffers at most go to encoders, the rest to what is in flight.
        let asked = match operation {
            Operation::BackupPush => number("WALG_UPLOAD_DISK_CONCURRENCY"),
            _ => 1,
        };
        let uploads = asked.min((buffers / 2 / ENCODER_MIN).max(1) as usize);
        let encoder = (buffers / 2 / uploads as u64).clamp(ENCODER_MIN, ENCODER);
        let threads = cores.div_ceil(uploads).min(4);
        // More decoders than cores gain nothing on a local disk; over a network
        // they hide its latency.
        let downloads = match operation {
            Operation::BackupFetch => number("WALG_DOWNLOAD_CONCURRENCY")
                .min((buffers / (DECODER + (2 << 20))).max(1) as usize)
                .min(2 * cores),
            _ => 1,
        };
        Ok(Self { buffers, encoder, threads, uploads, downloads })
    }

    /// How many chunks one upload may hold, for a store with these limits.
    ///
    /// Fails with [`Kind::Memory`] if not even the smallest part fits.
    pub fn upload_chunks(&self, limits: &Limits) -> Result<usize> {
        let chunk = CHUNK as u64;
        if limits.min_part == 0 {
            return Ok(4);
        }
        let share = (self.buffers / self.uploads as u64).saturating_sub(self.encoder).min(WINDOW);
        // One part on its way while the next one fills.
        let least = limits.min_part + chunk;
        if share < least {
            let missing = (least - share) * self.uploads as u64;
            return Err(Error::new(
                Kind::Memory,
                format!(
                    "{} uploads of parts of {} MiB do not fit into WALPORT_MEMORY_LIMIT",
                    self.uploads,
                    mib(limits.min_part)
                ),
            )
            .with_hint(format!(
                "Raise WALPORT_MEMORY_LIMIT by {} MiB, or lower WALG_UPLOAD_DISK_CONCURRENCY.",
                mib(missing)
            )));
        }
        Ok((share / chunk) as usize)
    }
}
