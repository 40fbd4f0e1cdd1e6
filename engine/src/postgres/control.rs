//! The control file (`global/pg_control`): what a cluster is, and where its last
//! checkpoint was. Versions 13 to 18, 64-bit little-endian builds.

use super::crc32c::crc32c;
use crate::error::{Error, Kind, Result};
use crate::layout::Lsn;

/// The bytes that hold everything; the rest of the file is zero.
pub const MIN_LEN: usize = 296;

/// What the server was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Starting for the first time.
    Starting,
    /// Shut down.
    ShutDown,
    /// Shut down while a standby.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Recovering after a crash.
    CrashRecovery,
    /// Recovering from an archive: a standby.
    ArchiveRecovery,
    /// In production.
    Production,
}

/// The content of the control file, as far as backups need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlFile {
    /// Identifies the cluster.
    pub system_identifier: u64,
    /// The format: 1300 (PostgreSQL 13 to 16), 1700 or 1800.
    pub version: u32,
    /// The format of the catalogues, different in each major version.
    pub catalog_version: u32,
    /// What the server was doing.
    pub state: State,
    /// Where the record of the last checkpoint is.
    pub checkpoint: Lsn,
    /// Where recovery from it begins.
    pub redo: Lsn,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
    /// A standby must recover at least to here.
    pub min_recovery_point: Lsn,
    /// The timeline of that position.
    pub min_recovery_timeline: u32,
    /// The size of a data page in bytes.
    pub block_size: u32,
    /// Pages in one file of a relation.
    pub relation_segment_blocks: u32,
    /// The size of a WAL page in bytes.
    pub wal_block_size: u32,
    /// The size of a WAL segment in bytes.
    pub wal_segment_size: u32,
    /// 0: pages carry no checksum.
    pub data_checksum_version: u32,
}

impl ControlFile {
    /// Reads the file's bytes (at least the first [`MIN_LEN`]).
    ///
    /// Fails with [`Kind::Corrupt`] if it is too short, its checksum is wrong or
    /// a value makes no sense, and with [`Kind::Unsupported`] for a format of
    /// another version or byte order.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; MIN_LEN] = bytes
            .first_chunk()
            .ok_or_else(|| corrupt(format!("it has {} bytes only", bytes.len())))?;
        let version = u32_at(bytes, 8);
        // The checksum stands after everything that it guards.
        let end = match version {
            1300 | 1700 => 288,
            1800 => 292,
            _ if version.swap_bytes() < 0x1_0000 && version >= 0x1_0000 => {
                return Err(unsupported("it is of a machine with the other byte order".to_owned()));
            }
            other => return Err(unsupported(format!("its version is {other}"))),
        };
        if crc32c(&bytes[..end]) != u32_at(bytes, end) {
            return Err(corrupt("its checksum is wrong".to_owned()));
        }
        let control = Self {
            system_identifier: u64_at(bytes, 0),
            version,
            catalog_version: u32_at(bytes, 12),
            state: state(u32_at(bytes, 16))?,
            checkpoint: Lsn(u64_at(bytes, 32)),
            redo: Lsn(u64_at(bytes, 40)),
            timeline: u32_at(bytes, 48),
            min_recovery_point: Lsn(u64_at(bytes, 136)),
            min_recovery_timeline: u32_at(bytes, 144),
            block_size: u32_at(bytes, 216),
            relation_segment_blocks: u32_at(bytes, 220),
            wal_block_size: u32_at(bytes, 224),
            wal_segment_size: u32_at(bytes, 228),
            data_checksum_version: u32_at(bytes, 252),
        };
        for (name, size) in [
            ("data page", control.block_size),
            ("WAL page", control.wal_block_size),
            ("WAL segment", control.wal_segment_size),
        ] {
            if !size.is_power_of_two() || size < 1024 {
                return Err(corrupt(format!("a {name} cannot have {size} bytes")));
            }
        }
        Ok(control)
    }

    /// Whether pages carry checksums.
    pub fn data_checksums(&self) -> bool {
        self.data_checksum_version != 0
    }
}

fn state(number: u32) -> Result<State> {
    Ok(match number {
        0 => State::Starting,
        1 => State::ShutDown,
        2 => State::ShutDownInRecovery,
        3 => State::ShuttingDown,
        4 => State::CrashRecovery,
        5 => State::ArchiveRecovery,
        6 => State::Production,
        other => return Err(corrupt(format!("its state is {other}"))),
    })
}

fn u32_at(bytes: &[u8; MIN_LEN], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8; MIN_LEN], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn corrupt(why: String) -> Error {
    Error::new(Kind::Corrupt, format!("the control file is damaged: {why}"))
}

fn unsupported(why: String) -> Error {
    Error::new(Kind::Unsupported, format!("the control file cannot be read: {why}"))
        .with_hint("Walport reads the control files of PostgreSQL 13 to 18.")
}
