//! Checks the pages of a file while its bytes stream by.
//!
//! While the server runs, a page can be read half old and half new. Such a page
//! is not corrupt: it was written after the backup began, so recovery restores
//! it from a full-page image in WAL. It is told from a damaged one like this: it
//! is read once more; if it is right then, or its LSN lies at or after the start
//! of the backup (but not further than WAL can have come, since random bytes
//! make a huge LSN), recovery will write it.
//!
//! What PostgreSQL itself would refuse is corrupt: also a page with a nonsense
//! header, one with checksum 0, and an unused page that is not all zeros. WAL-G
//! takes the first two for good.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::checksum::checksum;
use super::header::Header;
use crate::layout::Lsn;

/// How many block numbers are kept unless all are wanted.
const KEPT: usize = 10;

/// More WAL than one backup can see written: 16 TiB.
const FUTURE: u64 = 1 << 44;

/// What is to be checked.
#[derive(Debug)]
pub struct Options {
    /// The number of the file among those of its relation
    /// ([`super::fork_segment`]).
    pub segment: u32,
    /// The size of a page in bytes.
    pub block_size: u32,
    /// The pages of one file of a relation.
    pub segment_blocks: u32,
    /// Where the running backup began; `None` if nobody writes the file.
    pub start: Option<Lsn>,
    /// The file, to read a page once more; its position is not moved.
    pub again: Option<File>,
    /// Keep the number of every corrupt block, not only of the first ten.
    pub all: bool,
}

/// The corrupt blocks of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corrupt {
    /// How many there are.
    pub count: u64,
    /// Which they are, counted from the start of the file, ascending; the first
    /// ten unless all were wanted.
    pub blocks: Vec<u32>,
}

/// Collects the corrupt blocks of a file that is fed in chunks of any length.
#[derive(Debug)]
pub struct Verifier {
    options: Options,
    /// The beginning of a page whose end has not come yet.
    pending: Vec<u8>,
    block: u32,
    corrupt: Corrupt,
}

impl Verifier {
    /// A verifier at the start of the file.
    pub fn new(options: Options) -> Self {
        Self { options, pending: Vec::new(), block: 0, corrupt: Corrupt::default() }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        let size = self.options.block_size as usize;
        if size == 0 {
            return;
        }
        if !self.pending.is_empty() {
            let missing = (size - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.pending.len() < size {
                return;
            }
            let page = std::mem::take(&mut self.pending);
            self.page(&page);
            self.pending = page;
            self.pending.clear();
        }
        let mut pages = bytes.chunks_exact(size);
        for page in &mut pages {
            self.page(page);
        }
        self.pending.extend_from_slice(pages.remainder());
    }

    /// Checks one page, and `block` is its number within the file; for readers
    /// that pick pages. Pages must come in ascending order.
    pub fn check(&mut self, block: u32, page: &[u8]) {
        self.block = block;
        self.page(page);
    }

    /// The corrupt blocks. An incomplete page at the end is not looked at: the
    /// file grew while it was read.
    pub fn finish(self) -> Corrupt {
        self.corrupt
    }

    fn page(&mut self, page: &[u8]) {
        let block = self.block;
        self.block = block.wrapping_add(1);
        if self.good(block, page) || self.written_now(block, page) {
            return;
        }
        self.corrupt.count += 1;
        if self.options.all || self.corrupt.blocks.len() < KEPT {
            self.corrupt.blocks.push(block);
        }
    }

    fn good(&self, block: u32, page: &[u8]) -> bool {
        let Some(header) = Header::parse(page) else { return false };
        if header.is_new() {
            return page.iter().all(|&byte| byte == 0);
        }
        let number =
            self.options.segment.wrapping_mul(self.options.segment_blocks).wrapping_add(block);
        checksum(page, number) == header.checksum
    }

    /// Whether the server is writing the page, so that recovery restores it.
    fn written_now(&self, block: u32, page: &[u8]) -> bool {
        let Some(start) = self.options.start else { return false };
        let mut copy;
        let mut page = page;
        if let Some(file) = &self.options.again {
            copy = vec![0; page.len()];
            let at = u64::from(block) * u64::from(self.options.block_size);
            match file.read_exact_at(&mut copy, at) {
                Ok(()) => page = &copy,
                // The file was cut off meanwhile, which recovery repeats.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return true,
                Err(error) => log::warn!("a page could not be read once more: {error}"),
            }
            if self.good(block, page) {
                return true;
            }
        }
        Header::parse(page).is_some_and(|header| {
            header.lsn >= start && header.lsn.0 - start.0 < FUTURE
        })
    }
}
