//! Spilled lists: what grows with the number of files goes to a nameless file on
//! disk and is read back in order.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::settings::Settings;

/// The buffer of one open list in bytes.
const BUFFER: usize = 16 << 10;
/// The longest record in bytes: a name and a few numbers. Guards reading back.
const LONGEST: u32 = 1 << 24;

/// Where spilled lists go: `WALPORT_SPILL_DIR`, else the temporary directory.
pub(super) fn folder(settings: &Settings) -> PathBuf {
    settings.text("WALPORT_SPILL_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A list on disk that is being written.
#[derive(Debug)]
pub(super) struct Spill<T> {
    file: BufWriter<File>,
    length: u64,
    record: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Spill<T> {
    /// An empty list in `folder`. The file has no name, so nothing is left behind.
    pub(super) fn create(folder: &PathBuf) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            Error::io(format!("cannot create a temporary file in {}", folder.display()), error)
                .with_hint("Set WALPORT_SPILL_DIR to a directory that Walport may write to.")
        })?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file),
            length: 0,
            record: Vec::new(),
            kind: PhantomData,
        })
    }

    /// Appends one item.
    pub(super) fn push(&mut self, item: &T) -> Result<()> {
        self.record.clear();
        serde_json::to_writer(&mut self.record, item).map_err(|error| {
            Error::new(Kind::Internal, "cannot spill a record").with_source(error)
        })?;
        self.file
            .write_all(&(self.record.len() as u32).to_le_bytes())
            .and_then(|()| self.file.write_all(&self.record))
            .map_err(failed)?;
        self.length += 1;
        Ok(())
    }

    /// The items, from the first.
    pub(super) fn read(self) -> Result<Items<T>> {
        let mut file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        Ok(Items {
            file: BufReader::with_capacity(BUFFER, file),
            left: self.length,
            record: Vec::new(),
            kind: PhantomData,
        })
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("a temporary file failed", error)
        .with_hint("Set WALPORT_SPILL_DIR to a directory with free space.")
}

/// The items of a list on disk.
#[derive(Debug)]
pub(super) struct Items<T> {
    file: BufReader<File>,
    left: u64,
    record: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> Items<T> {
    /// The next item; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<T>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut length = [0; 4];
        self.file.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(Error::new(
                Kind::Internal,
                "a temporary file was changed while it was in use",
            ));
        }
        self.record.resize(length as usize, 0);
        self.file.read_exact(&mut self.record).map_err(failed)?;
        serde_json::from_slice(&self.record).map(Some).map_err(|error| {
            Error::new(Kind::Internal, "cannot read a spilled record").with_source(error)
        })
    }
}

/// A list on disk that comes back sorted: runs that fit into memory, merged.
#[derive(Debug)]
pub(super) struct Sorter<T> {
    folder: PathBuf,
    run: Vec<T>,
    held: usize,
    runs: Vec<Items<T>>,
}

/// What one run may hold in bytes, by the estimate of the caller.
const RUN: usize = 2 << 20;

impl<T: Serialize + DeserializeOwned + Ord> Sorter<T> {
    /// An empty list whose runs go to `folder`.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, run: Vec::new(), held: 0, runs: Vec::new() }
    }

    /// Adds an item that holds about `bytes` of memory.
    pub(super) fn push(&mut self, item: T, bytes: usize) -> Result<()> {
        self.run.push(item);
        self.held += bytes + size_of::<T>();
        if self.held >= RUN { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_unstable();
        let mut list = Spill::create(&self.folder)?;
        for item in self.run.drain(..) {
            list.push(&item)?;
        }
        self.held = 0;
        self.runs.push(list.read()?);
        Ok(())
    }

    /// The items, the smallest first.
    pub(super) fn finish(mut self) -> Result<Merged<T>> {
        self.spill()?;
        let mut heads = Vec::with_capacity(self.runs.len());
        for run in &mut self.runs {
            heads.push(run.next()?);
        }
        Ok(Merged { runs: self.runs, heads })
    }
}

/// Sorted runs, merged.
#[derive(Debug)]
pub(super) struct Merged<T> {
    runs: Vec<Items<T>>,
    heads: Vec<Option<T>>,
}

impl<T: DeserializeOwned + Ord> Merged<T> {
    /// The smallest item left; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<T>> {
        // Runs are few: 1 GiB of records makes 512.
        let smallest = self
            .heads
            .iter()
            .enumerate()
            .filter_map(|(at, head)| head.as_ref().map(|head| (head, at)))
            .min()
            .map(|(_, at)| at);
        let Some(at) = smallest else { return Ok(None) };
        let next = self.runs[at].next()?;
        Ok(std::mem::replace(&mut self.heads[at], next))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spilled_list_comes_back_in_order_and_sorted() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = std::env::temp_dir();
        let items: Vec<(u32, String)> = (0..60_000)
            .map(|_| (random.u32(..1000), format!("/base/{}", random.u32(..))))
            .collect();
        let mut list = Spill::create(&folder).unwrap();
        let mut sorter = Sorter::new(folder);
        for item in &items {
            list.push(item).unwrap();
            sorter.push(item.clone(), item.1.len()).unwrap();
        }
        let mut list = list.read().unwrap();
        for item in &items {
            assert_eq!(list.next().unwrap().as_ref(), Some(item));
        }
        assert!(list.next().unwrap().is_none());
        let mut sorted = items;
        sorted.sort();
        assert!(!sorter.runs.is_empty());
        let mut merged = sorter.finish().unwrap();
        for item in &sorted {
            assert_eq!(merged.next().unwrap().as_ref(), Some(item));
        }
        assert!(merged.next().unwrap().is_none());
    }
}
