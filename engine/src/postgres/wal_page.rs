//! The first page of a WAL segment: which cluster, timeline and position the
//! segment is of. Versions 13 to 18, little-endian builds.

use crate::error::{Error, Kind, Result};
use crate::layout::{Lsn, Segment};

/// The length of the header of a segment's first page in bytes.
pub const HEADER_LEN: usize = 40;

/// The magic number of each major version.
const MAGIC: &[(u16, u32)] =
    &[(0xD106, 13), (0xD10D, 14), (0xD110, 15), (0xD113, 16), (0xD116, 17), (0xD118, 18)];

/// The flag of a header with system identifier and sizes.
const LONG: u16 = 0x0002;

/// The header of a segment's first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstPage {
    /// The major version of PostgreSQL, if the magic number is known.
    pub major: Option<u32>,
    /// The magic number.
    pub magic: u16,
    /// The timeline of the first record. Lower than the segment's own where a
    /// new timeline began within the segment.
    pub timeline: u32,
    /// Where the page begins.
    pub address: Lsn,
    /// Identifies the cluster.
    pub system_identifier: u64,
    /// The size of a segment in bytes.
    pub segment_size: u32,
    /// The size of a WAL page in bytes.
    pub block_size: u32,
}

impl FirstPage {
    /// Reads the header.
    ///
    /// Fails with [`Kind::Corrupt`] if there are less than [`HEADER_LEN`] bytes,
    /// or they are not such a header. An unknown magic number is no error, for
    /// versions to come, as long as it looks like one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or_else(|| corrupt("it is shorter than its header"))?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
        let info = u16::from_le_bytes([bytes[2], bytes[3]]);
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(corrupt("its first page is empty"));
        }
        let major = MAGIC.iter().find(|(known, _)| *known == magic).map(|(_, major)| *major);
        if major.is_none() && magic >> 8 != 0xD1 {
            return Err(corrupt(format!("its first page begins with {magic:#06X}")));
        }
        if info & LONG == 0 {
            return Err(corrupt("its first page has the header of a later page"));
        }
        let page = Self {
            major,
            magic,
            timeline: word(4),
            address: Lsn(long(8)),
            system_identifier: long(24),
            segment_size: word(32),
            block_size: word(36),
        };
        if !page.segment_size.is_power_of_two()
            || !(1 << 20..=1 << 30).contains(&page.segment_size)
            || !page.block_size.is_power_of_two()
            || page.timeline == 0
        {
            return Err(corrupt("the header of its first page makes no sense"));
        }
        Ok(page)
    }
}

/// Checks that a file is the segment that its name says: `first_page` is its
/// beginning, at least [`HEADER_LEN`] bytes, `segment_size` its length in bytes.
///
/// Fails with [`Kind::Corrupt`] if it is not, or if it is of another cluster
/// than `system_identifier`.
pub fn check_segment(
    first_page: &[u8],
    name: &Segment,
    segment_size: u64,
    system_identifier: Option<u64>,
) -> Result<()> {
    let page =
        FirstPage::parse(first_page).map_err(|error| error.with_key(name.name(segment_size)))?;
    let fail = |why: String, hint: &str| {
        Err(corrupt(why).with_key(name.name(segment_size)).with_hint(hint))
    };
    if u64::from(page.segment_size) != segment_size {
        return fail(
            format!("it has {segment_size} bytes, and its header says {}", page.segment_size),
            "The file is incomplete, or PostgreSQL still writes it.",
        );
    }
    if page.address != name.start(segment_size) {
        return fail(
            format!(
                "it holds WAL from {}, and its name says {}",
                page.address,
                name.start(segment_size)
            ),
            "The file is a recycled segment that PostgreSQL has not filled yet, or it was renamed.",
        );
    }
    if page.timeline > name.timeline {
        return fail(
            format!("it holds WAL of timeline {}", page.timeline),
            "The file was renamed, or timelines were mixed up.",
        );
    }
    match system_identifier {
        Some(expected) if expected != page.system_identifier => fail(
            format!("it is of cluster {}, not of {expected}", page.system_identifier),
            "Two clusters use the same archive: give each its own prefix.",
        ),
        _ => Ok(()),
    }
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("not a good WAL segment: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Major version, system identifier, the beginning of segment 2.
    const FILES: &[(u32, u64, &[u8])] = &[
        (13, 7_711_381_815_957_501_453, include_bytes!("../../tests/data/postgres/wal-13")),
        (14, 7_711_381_840_042_980_991, include_bytes!("../../tests/data/postgres/wal-14")),
        (15, 7_711_381_870_213_719_867, include_bytes!("../../tests/data/postgres/wal-15")),
        (16, 7_711_381_904_953_702_531, include_bytes!("../../tests/data/postgres/wal-16")),
        (17, 7_711_381_940_469_820_139, include_bytes!("../../tests/data/postgres/wal-17")),
        (18, 7_711_381_959_737_314_240, include_bytes!("../../tests/data/postgres/wal-18")),
    ];
    const SIZE: u64 = 16 << 20;
    const NAME: Segment = Segment { timeline: 1, number: 2 };

    #[test]
    fn every_version_is_read() {
        for &(major, system_identifier, bytes) in FILES {
            let page = FirstPage::parse(bytes).unwrap();
            assert_eq!(page.major, Some(major));
            assert_eq!(page.timeline, 1);
            assert_eq!(page.address, Lsn(0x200_0000));
            assert_eq!(page.system_identifier, system_identifier);
            assert_eq!((u64::from(page.segment_size), page.block_size), (SIZE, 8192));
            check_segment(bytes, &NAME, SIZE, Some(system_identifier)).unwrap();
            check_segment(bytes, &NAME, SIZE, None).unwrap();
            // A segment that was completed on a later timeline.
            check_segment(bytes, &Segment { timeline: 2, ..NAME }, SIZE, None).unwrap();
        }
    }

    #[test]
    fn a_segment_under_a_wrong_name_is_refused() {
        let (_, system_identifier, bytes) = FILES[2];
        let refused = |bytes: &[u8], name, size, id| {
            let error = check_segment(bytes, &name, size, id).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{error}");
            error.to_string()
        };
        let text = refused(bytes, Segment { number: 3, ..NAME }, SIZE, None);
        assert!(text.contains("000000010000000000000003: "), "{text}");
        assert!(text.contains("0/2000000") && text.contains("0/3000000"), "{text}");
        assert!(refused(bytes, NAME, SIZE / 2, None).contains("16777216"));
        let text = refused(bytes, NAME, SIZE, Some(1));
        assert!(text.contains(&system_identifier.to_string()), "{text}");
        let mut later = bytes.to_vec();
        later[4] = 2;
        assert!(refused(&later, NAME, SIZE, None).contains("timeline 2"));
        let mut not_first = bytes.to_vec();
        not_first[2] = 0;
        refused(&not_first, NAME, SIZE, None);
        assert!(refused(&[0; 8192], NAME, SIZE, None).contains("empty"));
        refused(&bytes[..39], NAME, SIZE, None);
        refused(b"this is text, and not at all a segment of WAL", NAME, SIZE, None);
    }

    #[test]
    fn a_version_to_come_is_read() {
        let mut bytes = FILES[5].2.to_vec();
        bytes[0] = 0x30;
        assert_eq!(FirstPage::parse(&bytes).unwrap().major, None);
    }
}
