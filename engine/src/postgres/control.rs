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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `pg_control-N`: format, catalogue, system identifier and redo position, as
    /// pg_controldata shows them.
    const FILES: &[(&[u8], u32, u32, u64, u64)] = &[
        (
            include_bytes!("../../tests/data/postgres/pg_control-13"),
            1300,
            202_007_201,
            7_711_381_815_957_501_453,
            0x200_19C0,
        ),
        (
            include_bytes!("../../tests/data/postgres/pg_control-14"),
            1300,
            202_107_181,
            7_711_381_840_042_980_991,
            0x200_1990,
        ),
        (
            include_bytes!("../../tests/data/postgres/pg_control-15"),
            1300,
            202_209_061,
            7_711_381_870_213_719_867,
            0x200_1990,
        ),
        (
            include_bytes!("../../tests/data/postgres/pg_control-16"),
            1300,
            202_307_071,
            7_711_381_904_953_702_531,
            0x200_19A0,
        ),
        (
            include_bytes!("../../tests/data/postgres/pg_control-17"),
            1700,
            202_406_281,
            7_711_381_940_469_820_139,
            0x200_19C0,
        ),
        (
            include_bytes!("../../tests/data/postgres/pg_control-18"),
            1800,
            202_506_291,
            7_711_381_959_737_314_240,
            0x200_19C0,
        ),
    ];

    #[test]
    fn every_version_is_read() {
        for &(bytes, version, catalog_version, system_identifier, redo) in FILES {
            let control = ControlFile::parse(bytes).unwrap();
            assert_eq!(control.version, version);
            assert_eq!(control.catalog_version, catalog_version);
            assert_eq!(control.system_identifier, system_identifier);
            assert_eq!(control.state, State::ShutDown);
            assert_eq!(control.timeline, 1);
            // The checkpoint of a shutdown needs no recovery.
            assert_eq!(control.checkpoint, control.redo);
            assert_eq!(control.redo, Lsn(redo));
            assert_eq!((control.min_recovery_point, control.min_recovery_timeline), (Lsn(0), 0));
            assert_eq!(control.block_size, 8192);
            assert_eq!(control.relation_segment_blocks, 131_072);
            assert_eq!(control.wal_block_size, 8192);
            assert_eq!(control.wal_segment_size, 16 << 20);
            assert!(control.data_checksums());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for &(bytes, version, ..) in FILES {
            let end = if version == 1800 { 296 } else { 292 };
            for index in 0..end * 8 {
                let mut damaged = bytes.to_vec();
                damaged[index / 8] ^= 1 << (index % 8);
                assert!(ControlFile::parse(&damaged).is_err(), "{version}: bit {index}");
            }
        }
    }

    #[test]
    fn what_is_no_control_file_is_refused() {
        let (good, ..) = FILES[2];
        let short = ControlFile::parse(&good[..MIN_LEN - 1]).unwrap_err();
        assert_eq!(short.kind(), Kind::Corrupt);
        assert_eq!(ControlFile::parse(&[0; 8192]).unwrap_err().kind(), Kind::Unsupported);
        let mut other = good.to_vec();
        other[8..12].copy_from_slice(&1300u32.to_be_bytes());
        let error = ControlFile::parse(&other).unwrap_err();
        assert!(error.to_string().contains("byte order"), "{error}");
    }
}
