//! Composers: in which order entries are packed, and where a part must end.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spill::{Items, Merged, Sorter, Spill};
use super::walk::{Entry, Walk, What};
use crate::error::Result;
use crate::memory::Reservation;

/// One step of a composed backup.
#[derive(Debug)]
pub(super) enum Item {
    /// This goes into the part that is open.
    Entry(Entry),
    /// The part that is open ends here.
    Break,
}

/// Where the entries of a backup come from.
#[derive(Debug)]
pub(super) enum Source {
    /// As the walk gives them.
    Regular(Walk),
    /// All headers first, then files by how often they change.
    Rating(Box<Rating>),
    /// A group for each database, and one for the rest.
    Database(Database),
}

impl Source {
    /// The next step; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        match self {
            Source::Regular(walk) => Ok(walk.next()?.map(Item::Entry)),
            Source::Rating(rating) => rating.next(),
            Source::Database(database) => database.next(),
        }
    }

    /// How often the relation of a file was changed, where that is known.
    pub(super) fn updates(&self, name: &str) -> u64 {
        match self {
            Source::Rating(rating) => rating.updates.get(name),
            _ => 0,
        }
    }

    /// The walk behind it, which knows tablespaces and the control file.
    pub(super) fn walk(&self) -> &Walk {
        match self {
            Source::Regular(walk) => walk,
            Source::Rating(rating) => &rating.walk,
            Source::Database(database) => &database.walk,
        }
    }

    /// Whether parts must end at given places, so that one thread packs.
    pub(super) fn is_grouped(&self) -> bool {
        !matches!(self, Source::Regular(_))
    }
}

/// How often relations were changed: by database and file node.
#[derive(Debug, Default)]
pub(super) struct Updates {
    counts: HashMap<(u32, u32), u64>,
    held: Vec<Reservation>,
}

impl Updates {
    /// Adds the count of a relation. Shared relations have database 0.
    pub(super) fn add(&mut self, database: u32, filenode: u32, count: u64) {
        *self.counts.entry((database, filenode)).or_default() += count;
    }

    /// Keeps the memory that the counts take out of the budget.
    pub(super) fn hold(&mut self, memory: Reservation) {
        self.held.push(memory);
    }

    /// The count of the relation that the file belongs to; 0 if there is none.
    fn get(&self, name: &str) -> u64 {
        let mut parts = name.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let node = file.split(['.', '_']).next().and_then(|node| node.parse().ok());
        let folder = parts.next().unwrap_or_default();
        let database = if folder == "global" { Some(0) } else { folder.parse().ok() };
        match (database, node) {
            (Some(database), Some(node)) => {
                self.counts.get(&(database, node)).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// An entry on disk, with what it is sorted by.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Rated {
    rating: u64,
    order: u64,
    entry: Line,
}

/// An entry in a spilled list.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    name: String,
    kind: u8,
    target: Option<PathBuf>,
    size: u64,
    owner: (u32, u32, u32),
    mtime: (i64, u32),
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        let (kind, target) = match entry.what {
            What::File => (0, None),
            What::Directory => (1, None),
            What::Link(target) => (2, Some(target)),
        };
        Self {
            name: entry.name,
            kind,
            target,
            size: entry.size,
            owner: (entry.mode, entry.uid, entry.gid),
            mtime: entry.mtime,
        }
    }
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        let what = match (line.kind, line.target) {
            (2, Some(target)) => What::Link(target),
            (1, _) => What::Directory,
            _ => What::File,
        };
        let (mode, uid, gid) = line.owner;
        Self { name: line.name, what, size: line.size, mode, uid, gid, mtime: line.mtime }
    }
}

/// The rating composer: headers first, then files from the least to the most
/// changed; a new part where the estimate exceeds the threshold and where files
/// that are never changed end.
#[derive(Debug)]
pub(super) struct Rating {
    walk: Walk,
    updates: Updates,
    threshold: u64,
    headers: Option<Items<Line>>,
    files: Merged<Rated>,
    size: u64,
    previous: u64,
    waiting: Option<Entry>,
}

impl Rating {
    /// Walks over everything and sorts it on disk, in `folder`.
    pub(super) fn new(
        mut walk: Walk,
        updates: Updates,
        threshold: u64,
        folder: PathBuf,
    ) -> Result<Self> {
        let mut headers = Spill::create(&folder)?;
        let mut files = Sorter::new(folder);
        let mut order = 0;
        while let Some(entry) = walk.next()? {
            order += 1;
            if entry.what != What::File {
                headers.push(&Line::from(entry))?;
                continue;
            }
            let rating = updates.get(&entry.name);
            let bytes = entry.name.len();
            files.push(Rated { rating, order, entry: entry.into() }, bytes)?;
        }
        let headers = Some(headers.read()?);
        let files = files.finish()?;
        Ok(Self { walk, updates, threshold, headers, files, size: 0, previous: 0, waiting: None })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        if let Some(headers) = &mut self.headers {
            if let Some(line) = headers.next()? {
                return Ok(Some(Item::Entry(line.into())));
            }
            self.headers = None;
            return Ok(Some(Item::Break));
        }
        if let Some(entry) = self.waiting.take() {
            self.size = entry.size;
            return Ok(Some(Item::Entry(entry)));
        }
        let Some(rated) = self.files.next()? else { return Ok(None) };
        let entry = Entry::from(rated.entry);
        let first_changed = self.previous == 0 && rated.rating > 0;
        let full = self.size + entry.size > self.threshold;
        self.previous = rated.rating;
        if self.size > 0 && (full || first_changed) {
            self.waiting = Some(entry);
            return Ok(Some(Item::Break));
        }
        self.size += entry.size;
        Ok(Some(Item::Entry(entry)))
    }
}

/// The database composer: the files of each directory below `base` (or of a
/// tablespace's version directory) are a part of their own; all else is one group.
#[derive(Debug)]
pub(super) struct Database {
    walk: Walk,
    group: Option<String>,
    waiting: Option<Entry>,
    rest: Rest,
}

/// What belongs to no database waits on disk until the walk is over.
#[derive(Debug)]
enum Rest {
    Filling(Spill<Line>),
    Emptying(Items<Line>),
    Done,
}

impl Database {
    /// Composes by database; the rest waits in a file in `folder`.
    pub(super) fn new(walk: Walk, folder: &PathBuf) -> Result<Self> {
        Ok(Self { walk, group: None, waiting: None, rest: Rest::Filling(Spill::create(folder)?) })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        if let Some(entry) = self.waiting.take() {
            return Ok(Some(Item::Entry(entry)));
        }
        loop {
            match &mut self.rest {
                Rest::Filling(rest) => {
                    let Some(entry) = self.walk.next()? else {
                        let Rest::Filling(rest) = std::mem::replace(&mut self.rest, Rest::Done)
                        else {
                            return Ok(None);
                        };
                        self.rest = Rest::Emptying(rest.read()?);
                        return Ok(Some(Item::Break));
                    };
                    let Some(group) = group_of(&entry) else {
                        rest.push(&entry.into())?;
                        continue;
                    };
                    let same = self.group.as_deref() == Some(group.as_str());
                    let first = self.group.replace(group).is_none();
                    if same || first {
                        return Ok(Some(Item::Entry(entry)));
                    }
                    self.waiting = Some(entry);
                    return Ok(Some(Item::Break));
                }
                Rest::Emptying(rest) => {
                    if let Some(line) = rest.next()? {
                        return Ok(Some(Item::Entry(line.into())));
                    }
                    self.rest = Rest::Done;
                }
                Rest::Done => return Ok(None),
            }
        }
    }
}

/// The directory whose files are packed together, for a file of a database.
fn group_of(entry: &Entry) -> Option<String> {
    let in_database = entry.name.starts_with("/base/") || entry.name.starts_with("/pg_tblspc/");
    let folder = entry.name.rsplit_once('/')?.0;
    (entry.what == What::File && in_database).then(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(source: &mut Source) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(item) = source.next().unwrap() {
            names.push(match item {
                Item::Entry(entry) => entry.name,
                Item::Break => "--".to_owned(),
            });
        }
        names
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["base/1", "base/5", "global"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in [
            "base/1/10",
            "base/1/11",
            "base/5/10",
            "base/5/10.1",
            "base/5/12_fsm",
            "global/7",
            "PG_VERSION",
        ] {
            std::fs::write(root.path().join(file), [0; 100]).unwrap();
        }
        root
    }

    #[test]
    fn files_are_grouped_by_database() {
        let root = tree();
        let mut source =
            Source::Database(Database::new(Walk::new(root.path()), &std::env::temp_dir()).unwrap());
        assert_eq!(
            names(&mut source),
            [
                "/base/1/10",
                "/base/1/11",
                "--",
                "/base/5/10",
                "/base/5/10.1",
                "/base/5/12_fsm",
                "--",
                "/",
                "/PG_VERSION",
                "/base",
                "/base/1",
                "/base/5",
                "/global",
                "/global/7",
            ]
        );
    }

    #[test]
    fn files_are_ordered_by_how_often_they_change() {
        let root = tree();
        let mut updates = Updates::default();
        updates.add(5, 10, 30);
        updates.add(1, 11, 7);
        updates.add(0, 7, 9);
        let rating =
            Rating::new(Walk::new(root.path()), updates, 250, std::env::temp_dir()).unwrap();
        let mut source = Source::Rating(Box::new(rating));
        assert_eq!(
            names(&mut source),
            [
                "/",
                "/base",
                "/base/1",
                "/base/5",
                "/global",
                "--",
                "/PG_VERSION",
                "/base/1/10",
                "--",
                "/base/5/12_fsm",
                "--",
                "/base/1/11",
                "/global/7",
                "--",
                "/base/5/10",
                "/base/5/10.1",
            ]
        );
    }
}
