//! The fields of an LZ4 frame, written and read.

use std::hash::Hasher;
use std::io::{self, Read};

use twox_hash::XxHash32;
use walport_engine::{Error, Kind};

use super::NAME;
use crate::stream::{corrupt, read_full};

const MAGIC: u32 = 0x184D_2204;
const LEGACY_MAGIC: u32 = 0x184C_2102;
const SKIPPABLE_MAGICS: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// The mark of a block that is stored as it is.
pub const RAW: u32 = 1 << 31;
/// What stands where the next block would.
pub const END_MARK: u32 = 0;

/// The largest block of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSize {
    KiB64,
    KiB256,
    MiB1,
    MiB4,
}

impl BlockSize {
    /// All of them, the smallest first.
    pub const ALL: [Self; 4] = [Self::KiB64, Self::KiB256, Self::MiB1, Self::MiB4];

    /// The size in bytes.
    pub fn bytes(self) -> usize {
        (64 << 10) << (2 * self as usize)
    }
}

/// A hash of the content.
pub fn hasher() -> XxHash32 {
    XxHash32::with_seed(0)
}

fn digest(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

/// The header of a frame as WAL-G writes it, but for the block size.
pub fn header(block: BlockSize) -> [u8; 7] {
    // Version 1, independent blocks, a checksum of the content.
    let descriptor = [0x64, 0x40 + ((block as u8) << 4)];
    let [a, b, c, d] = MAGIC.to_le_bytes();
    [a, b, c, d, descriptor[0], descriptor[1], (digest(&descriptor) >> 8) as u8]
}

/// A block as it was stored, and how long it is.
#[derive(Debug, Clone, Copy)]
pub enum Stored {
    Packed(usize),
    Raw(usize),
}

/// Makes room for `len` bytes, and for more where more is likely. Fresh zeroed
/// memory costs nothing until it is touched, which growing in place would do.
pub fn room(buffer: &mut Vec<u8>, len: usize, block: BlockSize) {
    if buffer.len() < len {
        *buffer = vec![0; len.next_power_of_two().min(block.bytes())];
    }
}

/// The header of a frame, read.
#[derive(Debug)]
pub struct Header {
    pub block: BlockSize,
    pub independent: bool,
    pub block_checksum: bool,
    pub content_checksum: bool,
    pub content_size: Option<u64>,
}

impl Header {
    /// Reads up to the next frame's first block, over frames that are to be
    /// skipped. `None` if the input ends before a frame begins; `skipped` tells
    /// whether a frame was skipped.
    pub fn read(from: &mut impl Read, skipped: &mut bool) -> io::Result<Option<Self>> {
        loop {
            let mut magic = [0; 4];
            match read_full(from, &mut magic)? {
                0 => return Ok(None),
                4 => {}
                _ => return Err(early()),
            }
            match u32::from_le_bytes(magic) {
                MAGIC => return Self::descriptor(from).map(Some),
                LEGACY_MAGIC => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        "the lz4 data is of the legacy format",
                    )
                    .with_hint("Convert the object with the lz4 program.")
                    .into());
                }
                magic if SKIPPABLE_MAGICS.contains(&magic) => {
                    let len = word(from)?;
                    skip(from, u64::from(len))?;
                    *skipped = true;
                }
                _ => return Err(corrupt(NAME, "no frame begins where one should")),
            }
        }
    }

    fn descriptor(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; 14];
        exactly(from, &mut bytes[..2])?;
        let (flags, size) = (bytes[0], bytes[1]);
        let mut len = 2;
        let has_size = flags & 0x08 != 0;
        let has_dictionary = flags & 0x01 != 0;
        let extra = if has_size { 8 } else { 0 } + if has_dictionary { 4 } else { 0 };
        exactly(from, &mut bytes[len..len + extra])?;
        len += extra;
        let mut check = [0];
        exactly(from, &mut check)?;
        if check[0] != (digest(&bytes[..len]) >> 8) as u8 {
            return Err(corrupt(NAME, "the frame header does not match its checksum"));
        }
        if flags & 0xC2 != 0x40 || size & 0x8F != 0 || size < 0x40 {
            return Err(corrupt(NAME, "the frame header is not possible"));
        }
        if has_dictionary {
            return Err(Error::new(Kind::Unsupported, "the lz4 frame needs a dictionary").into());
        }
        let mut content_size = [0; 8];
        content_size.copy_from_slice(&bytes[2..10]);
        Ok(Self {
            block: BlockSize::ALL[usize::from(size >> 4) - 4],
            independent: flags & 0x20 != 0,
            block_checksum: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_size: has_size.then(|| u64::from_le_bytes(content_size)),
        })
    }

    /// Reads the next block: a packed one into `packed`, one that is stored as it
    /// is into `content`, which holds the largest. `None` at the end mark. A wrong
    /// size, or a checksum of the block that does not match, is an error.
    pub fn block(
        &self,
        from: &mut impl Read,
        packed: &mut Vec<u8>,
        content: &mut [u8],
    ) -> io::Result<Option<Stored>> {
        let size = word(from)?;
        if size == END_MARK {
            return Ok(None);
        }
        let len = (size & !RAW) as usize;
        if len == 0 || len > self.block.bytes() {
            return Err(corrupt(NAME, "a block is larger than the frame allows"));
        }
        let (into, stored) = if size & RAW == 0 {
            room(packed, len, self.block);
            (&mut packed[..len], Stored::Packed(len))
        } else {
            (&mut content[..len], Stored::Raw(len))
        };
        exactly(from, into)?;
        if self.block_checksum && word(from)? != digest(into) {
            return Err(corrupt(NAME, "a block does not match its checksum"));
        }
        Ok(Some(stored))
    }

    /// Reads what follows the end mark, and compares.
    pub fn end(&self, from: &mut impl Read, hash: &XxHash32, size: u64) -> io::Result<()> {
        if self.content_checksum && u64::from(word(from)?) != hash.finish() {
            return Err(corrupt(NAME, "the content does not match its checksum"));
        }
        match self.content_size {
            Some(wanted) if wanted != size => {
                Err(corrupt(NAME, "the content is not of the recorded size"))
            }
            _ => Ok(()),
        }
    }
}

fn early() -> io::Error {
    corrupt(NAME, "the stream ends early")
}

fn exactly(from: &mut impl Read, into: &mut [u8]) -> io::Result<()> {
    if read_full(from, into)? == into.len() { Ok(()) } else { Err(early()) }
}

fn word(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    exactly(from, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn skip(from: &mut impl Read, len: u64) -> io::Result<()> {
    if io::copy(&mut from.take(len), &mut io::sink())? == len { Ok(()) } else { Err(early()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_walgs() {
        assert_eq!(header(BlockSize::MiB4), [0x04, 0x22, 0x4D, 0x18, 0x64, 0x70, 0xB9]);
    }
}
