//! The names of one directory in byte order, a page at a time.
//!
//! A directory is read in the order its file system likes, and may hold more
//! names than there is memory for. So a page keeps the smallest names greater
//! than the last one given out, as many as fit, and the directory is read again
//! for the next page.

use std::ops::Range;

use walport_engine::memory::{Budget, Reservation};

/// The bytes of one page that are always granted, the large ones are not.
const SMALL: u64 = 64 << 10;
/// The bytes of one page at most: some 60,000 names of WAL segments.
const LARGE: u64 = 4 << 20;

/// Names, sorted, the first part of those that were offered.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Vec<u8>,
    names: Vec<Range<u32>>,
    limit: u64,
    largest: u64,
    /// Names from here on were left out.
    left_out: Option<Vec<u8>>,
    budget: Budget,
    reserved: Vec<Reservation>,
}

impl Page {
    /// An empty page, which grows as far as `budget` allows.
    pub(super) fn new(budget: &Budget) -> Self {
        Self::with_sizes(budget, SMALL, LARGE)
    }

    /// The same with other bounds, in bytes.
    pub(super) fn with_sizes(budget: &Budget, small: u64, large: u64) -> Self {
        Self {
            bytes: Vec::new(),
            names: Vec::new(),
            limit: small,
            largest: large,
            left_out: None,
            budget: budget.clone(),
            reserved: Vec::new(),
        }
    }

    /// Offers a name: `name`, and a slash for a directory.
    pub(super) fn offer(&mut self, name: &[u8], is_directory: bool) {
        if let Some(bound) = &self.left_out
            && compare(name, is_directory, bound).is_ge()
        {
            return;
        }
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        if is_directory {
            self.bytes.push(b'/');
        }
        self.names.push(from..self.bytes.len() as u32);
        if self.used() > self.limit && !self.grow() {
            self.halve();
        }
    }

    fn used(&self) -> u64 {
        (self.bytes.len() + self.names.len() * size_of::<Range<u32>>()) as u64
    }

    fn grow(&mut self) -> bool {
        if self.limit >= self.largest {
            return false;
        }
        let Ok(reserved) = self.budget.reserve(self.limit, "listing a folder") else {
            return false;
        };
        self.reserved.push(reserved);
        self.limit *= 2;
        true
    }

    /// Keeps the smaller half of the names.
    fn halve(&mut self) {
        self.sort();
        let kept = (self.names.len() / 2).max(1);
        if kept == self.names.len() {
            return;
        }
        self.left_out = Some(self.get(kept).to_vec());
        let mut bytes = Vec::with_capacity(self.bytes.len() / 2);
        for name in &mut self.names[..kept] {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[name.start as usize..name.end as usize]);
            *name = from..bytes.len() as u32;
        }
        self.names.truncate(kept);
        self.bytes = bytes;
    }

    /// Puts the names in order; to be called when all were offered.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let text = |name: &Range<u32>| &bytes[name.start as usize..name.end as usize];
        self.names.sort_unstable_by(|a, b| text(a).cmp(text(b)));
    }

    /// The name at `index`, with a final slash if it is a directory.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        let name = &self.names[index];
        &self.bytes[name.start as usize..name.end as usize]
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether every name that was offered is here.
    pub(super) fn is_last(&self) -> bool {
        self.left_out.is_none()
    }
}

/// The order of `name` (with a slash if it is a directory) and `other`.
pub(super) fn compare(name: &[u8], is_directory: bool, other: &[u8]) -> std::cmp::Ordering {
    let slash = is_directory.then_some(&b'/');
    name.iter().chain(slash).cmp(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_the_smallest_names_within_its_size() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut all: Vec<String> = (0..5000).map(|number| format!("{number:08}")).collect();
        random.shuffle(&mut all);
        let budget = Budget::new(8 << 10);
        let mut page = Page::with_sizes(&budget, 4 << 10, 64 << 10);
        for name in &all {
            page.offer(name.as_bytes(), false);
        }
        page.sort();
        assert!(!page.is_last());
        assert!(page.used() <= 8 << 10, "{} bytes", page.used());
        assert_eq!(budget.free(), 4 << 10);
        assert!(page.len() > 100, "{} names", page.len());
        for index in 0..page.len() {
            assert_eq!(page.get(index), format!("{index:08}").as_bytes());
        }
    }

    #[test]
    fn directories_sort_with_their_slash() {
        let mut page = Page::new(&Budget::new(0));
        page.offer(b"a0", false);
        page.offer(b"a", true);
        page.offer(b"a-b", false);
        page.sort();
        let names: Vec<&[u8]> = (0..page.len()).map(|index| page.get(index)).collect();
        assert_eq!(names, [b"a-b".as_slice(), b"a/", b"a0"]);
        assert!(page.is_last());
    }
}
