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
        Header::parse(page)
            .is_some_and(|header| header.lsn >= start && header.lsn.0 - start.0 < FUTURE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::postgres::page::{BLOCK_SIZE, SEGMENT_BLOCKS};

    const PAGES: &[u8] = include_bytes!("../../../tests/data/postgres/pages-15");
    const SIZE: usize = BLOCK_SIZE as usize;

    fn options() -> Options {
        Options {
            segment: 0,
            block_size: BLOCK_SIZE,
            segment_blocks: SEGMENT_BLOCKS,
            start: None,
            again: None,
            all: false,
        }
    }

    /// Block 0 unused, then blocks 1 and 2 of a real table, then `more` unused.
    fn file(more: usize) -> Vec<u8> {
        [vec![0; SIZE], PAGES.to_vec(), vec![0; more * SIZE]].concat()
    }

    fn verify(bytes: &[u8], options: Options) -> Corrupt {
        let mut verifier = Verifier::new(options);
        verifier.feed(bytes);
        verifier.finish()
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let mut bytes = file(2);
        assert_eq!(verify(&bytes, options()), Corrupt::default());
        bytes[SIZE + 5000] ^= 1;
        bytes[3 * SIZE + 100] = 1;
        let expected = Corrupt { count: 2, blocks: vec![1, 3] };
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50 {
            let mut verifier = Verifier::new(options());
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(random.usize(0..=rest.len().min(20_000)));
                verifier.feed(chunk);
                rest = after;
            }
            assert_eq!(verifier.finish(), expected);
        }
    }

    #[test]
    fn what_postgresql_refuses_is_corrupt() {
        let broken = |change: fn(&mut [u8])| {
            let mut bytes = file(0);
            change(&mut bytes[SIZE..2 * SIZE]);
            verify(&bytes, options()).blocks
        };
        assert_eq!(broken(|page| page[8..10].fill(0)), [1], "checksum 0");
        assert_eq!(broken(|page| page.fill(0xFF)), [1], "nonsense");
        assert_eq!(broken(|page| page[14..16].fill(0)), [1], "unused, but not zero");
        assert_eq!(broken(|page| page.fill(0)), [] as [u32; 0]);
        assert_eq!(broken(|page| page[8190] ^= 0x80), [1]);
        let swapped = [&[0; SIZE], &PAGES[SIZE..], &PAGES[..SIZE]].concat();
        assert_eq!(verify(&swapped, options()).blocks, [1, 2], "pages in each other's place");
    }

    #[test]
    fn later_files_of_a_relation_count_on() {
        let options = Options { segment: 1, segment_blocks: 1, ..options() };
        assert_eq!(verify(PAGES, options).count, 0);
    }

    #[test]
    fn ten_blocks_are_kept_or_all() {
        let bytes = vec![1; 25 * SIZE];
        let some = verify(&bytes, options());
        assert_eq!((some.count, some.blocks), (25, (0..10).collect()));
        let all = verify(&bytes, Options { all: true, ..options() });
        assert_eq!((all.count, all.blocks), (25, (0..25).collect()));
    }

    #[test]
    fn a_page_that_is_being_written_is_not_corrupt() {
        let good = file(0);
        let lsn = Header::parse(&good[SIZE..]).unwrap().lsn;
        let mut torn = good.clone();
        torn[SIZE + 4096..2 * SIZE].fill(9);
        let mut disk = tempfile::tempfile().unwrap();
        disk.write_all(&good).unwrap();
        let later = Some(lsn + 1);
        let again = || Some(disk.try_clone().unwrap());
        // Whole when it is read once more.
        assert_eq!(verify(&torn, Options { start: later, again: again(), ..options() }).count, 0);
        // Still torn, but written since the backup began.
        let start = Some(lsn);
        disk.write_all_at(&torn, 0).unwrap();
        assert_eq!(verify(&torn, Options { start, again: again(), ..options() }).count, 0);
        assert_eq!(verify(&torn, Options { start, ..options() }).count, 0);
        // Not written since, so nothing repairs it.
        assert_eq!(verify(&torn, Options { start: later, again: again(), ..options() }).count, 1);
        // Cut off meanwhile.
        disk.set_len(SIZE as u64).unwrap();
        assert_eq!(verify(&torn, Options { start: later, again: again(), ..options() }).count, 0);
    }

    #[test]
    fn an_lsn_of_random_bytes_is_no_excuse() {
        let mut bytes = file(0);
        bytes[SIZE..SIZE + 8].fill(0x55);
        assert_eq!(verify(&bytes, Options { start: Some(Lsn(0x100_0000)), ..options() }).count, 1);
    }

    #[test]
    fn picked_pages_are_checked_under_their_numbers() {
        let mut verifier = Verifier::new(options());
        verifier.check(1, &PAGES[..SIZE]);
        verifier.check(2, &PAGES[SIZE..]);
        verifier.check(7, &PAGES[SIZE..]);
        assert_eq!(verifier.finish(), Corrupt { count: 1, blocks: vec![7] });
    }
}
