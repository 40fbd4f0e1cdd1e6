//! The header of a page.

use crate::layout::Lsn;

/// The length of the header in bytes.
pub const HEADER_LEN: usize = 24;

/// The flags that are defined.
const FLAGS: u16 = 0x0007;
/// The newest layout version that is known.
const LAYOUT: u16 = 5;

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The end of the last WAL record that changed the page.
    pub lsn: Lsn,
    /// The checksum that is stored.
    pub checksum: u16,
    /// Flags.
    pub flags: u16,
    /// Where free space begins.
    pub lower: u16,
    /// Where free space ends.
    pub upper: u16,
    /// Where the special space begins.
    pub special: u16,
    /// The page's size in bytes.
    pub size: u16,
    /// The layout version.
    pub layout: u16,
}

impl Header {
    /// Reads the header; `None` if there are less than [`HEADER_LEN`] bytes.
    pub fn parse(page: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = page.first_chunk()?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
        Some(Self {
            // The two halves are stored high one first, each in the machine's order.
            lsn: Lsn(word(0) << 32 | word(4)),
            checksum: half(8),
            flags: half(10),
            lower: half(12),
            upper: half(14),
            special: half(16),
            size: half(18) & 0xFF00,
            layout: half(18) & 0x00FF,
        })
    }

    /// Whether the page was never used.
    pub fn is_new(&self) -> bool {
        self.upper == 0
    }

    /// Whether every field makes sense for a page in use.
    pub fn is_valid(&self, block_size: u32) -> bool {
        self.flags & !FLAGS == 0
            && usize::from(self.lower) >= HEADER_LEN
            && self.lower <= self.upper
            && self.upper <= self.special
            && u32::from(self.special) <= block_size
            && self.lsn != Lsn(0)
            && u32::from(self.size) == block_size
            && self.layout <= LAYOUT
    }
}

/// Whether the page was never used.
pub fn is_new(page: &[u8]) -> bool {
    Header::parse(page).is_some_and(|header| header.is_new())
}

/// Whether the header makes sense for a page in use.
pub fn is_valid(page: &[u8], block_size: u32) -> bool {
    Header::parse(page).is_some_and(|header| header.is_valid(block_size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGES: &[u8] = include_bytes!("../../../tests/data/postgres/pages-15");

    #[test]
    fn a_real_page_is_valid_and_each_nonsense_is_seen() {
        let header = Header::parse(PAGES).unwrap();
        assert!(header.is_valid(8192) && !header.is_new(), "{header:?}");
        assert_eq!((header.size, header.layout, header.special), (8192, 4, 8192));
        assert!(header.lsn > Lsn(0x100_0000) && header.lsn < Lsn(0x300_0000), "{header:?}");
        for nonsense in [
            Header { flags: 8, ..header },
            Header { lower: 23, ..header },
            Header { lower: header.upper + 1, ..header },
            Header { upper: header.special + 1, ..header },
            Header { special: 8193, ..header },
            Header { lsn: Lsn(0), ..header },
            Header { size: 4096, ..header },
            Header { layout: 6, ..header },
        ] {
            assert!(!nonsense.is_valid(8192), "{nonsense:?}");
        }
        assert!(Header { layout: 5, flags: 7, ..header }.is_valid(8192));
        assert!(is_valid(PAGES, 8192) && !is_valid(PAGES, 16_384));
        assert!(is_new(&[0; 8192]) && !is_new(PAGES));
        assert!(Header::parse(&PAGES[..23]).is_none());
    }

    #[test]
    fn the_lsn_is_two_halves() {
        let mut page = [0; 24];
        page[..8].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(Header::parse(&page).unwrap().lsn, Lsn(0x2_0000_0001));
    }
}
