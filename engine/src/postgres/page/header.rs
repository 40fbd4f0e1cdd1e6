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
