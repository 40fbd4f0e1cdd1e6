//! The walk over a data directory: every file, directory and link that belongs
//! to a backup, in the order of names, one at a time.
//!
//! What is held at a time is the names of the directories on the way down, so
//! memory grows with the largest directory, by a few bytes more than its names.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Left out wherever they are: files are dropped, directories are kept empty.
/// The list is WAL-G's.
pub(super) const EXCLUDED: &[&str] = &[
    "log",
    "pg_log",
    "pg_xlog",
    "pg_wal",
    "pgsql_tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_stat_tmp",
    "pg_snapshots",
    "pg_subtrans",
    "standby.signal",
];

/// The file that is stored apart, and last.
const CONTROL_FILE: &str = "pg_control";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that is not a tablespace, with its target.
    Link(PathBuf),
}

/// One entry of a backup.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its name in the tar: a slash and the path below the data directory.
    pub name: String,
    /// What it is.
    pub what: What,
    /// Bytes, when it was walked over; 0 for what is not a file.
    pub size: u64,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

/// A tablespace that the walk met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tablespace {
    /// The name of the link: its OID.
    pub name: String,
    /// Where it points, as the link says.
    pub target: String,
}

/// The walk. Each call of [`Walk::next`] gives one entry.
#[derive(Debug)]
pub(super) struct Walk {
    root: PathBuf,
    stack: Vec<Folder>,
    started: bool,
    tablespaces: Vec<Tablespace>,
    control: Option<Entry>,
    catalog_size: u64,
}

#[derive(Debug)]
struct Folder {
    /// Where it is.
    path: PathBuf,
    /// Its name in the tar, without a final slash.
    name: String,
    names: Names,
}

impl Walk {
    /// A walk over the data directory `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            stack: Vec::new(),
            started: false,
            tablespaces: Vec::new(),
            control: None,
            catalog_size: 0,
        }
    }

    /// The next entry; `None` at the end. What vanishes meanwhile is left out.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        if !self.started {
            self.started = true;
            let root = self.root.clone();
            let meta = fs::symlink_metadata(&root).map_err(|error| cannot_read(&root, error))?;
            self.descend(root, String::new())?;
            return Ok(Some(entry("/".to_owned(), What::Directory, &meta)));
        }
        while let Some(folder) = self.stack.last_mut() {
            let Some(base) = folder.names.next() else {
                self.stack.pop();
                continue;
            };
            let path = folder.path.join(&base);
            let name = format!("{}/{base}", folder.name);
            let in_tablespaces = folder.name == "/pg_tblspc";
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(cannot_read(&path, error)),
            };
            self.catalog_size += meta.len();
            if let Some(entry) = self.visit(path, name, &base, &meta, in_tablespaces)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn visit(
        &mut self,
        path: PathBuf,
        name: String,
        base: &str,
        meta: &Metadata,
        in_tablespaces: bool,
    ) -> Result<Option<Entry>> {
        let kind = meta.file_type();
        let excluded = EXCLUDED.contains(&base);
        if kind.is_dir() {
            if !excluded {
                self.descend(path, name.clone())?;
            }
            return Ok(Some(entry(name, What::Directory, meta)));
        }
        if excluded {
            return Ok(None);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| cannot_read(&path, error))?;
            if in_tablespaces {
                let text = target.to_str().ok_or_else(|| not_utf8(&target))?;
                self.tablespaces.push(Tablespace {
                    name: base.to_owned(),
                    target: text.trim_end_matches('/').to_owned(),
                });
                self.descend(path, name)?;
                return Ok(None);
            }
            return Ok(Some(entry(name, What::Link(target), meta)));
        }
        if !kind.is_file() {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{} is neither a file, a directory nor a link", path.display()),
            )
            .with_hint("Remove it from the data directory, then take the backup again."));
        }
        let entry = entry(name, What::File, meta);
        if base == CONTROL_FILE {
            self.control = Some(entry);
            return Ok(None);
        }
        Ok(Some(entry))
    }

    fn descend(&mut self, path: PathBuf, name: String) -> Result<()> {
        match Names::read(&path) {
            Ok(names) => {
                self.stack.push(Folder { path, name, names });
                Ok(())
            }
            // Dropped since its name was read, as a database or a tablespace can be.
            Err(error) if error.kind() == Kind::NotFound && !self.stack.is_empty() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The tablespaces met so far, in the order of discovery.
    pub(super) fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    /// The control file, which the walk keeps back.
    pub(super) fn control(&self) -> Option<&Entry> {
        self.control.as_ref()
    }

    /// The sum of the sizes of all that was walked over.
    pub(super) fn catalog_size(&self) -> u64 {
        self.catalog_size
    }
}

fn entry(name: String, what: What, meta: &Metadata) -> Entry {
    let size = if what == What::File { meta.len() } else { 0 };
    Entry {
        name,
        what,
        size,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec() as u32),
    }
}

fn cannot_read(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
}

fn not_utf8(path: &Path) -> Error {
    Error::new(Kind::Unsupported, format!("{} is not valid UTF-8", path.display()))
        .with_hint("Rename the file: names in the layout of WAL-G are UTF-8.")
}

/// The names in a directory, sorted, in one piece of memory.
#[derive(Debug)]
struct Names {
    text: Vec<u8>,
    /// Start and length of each name, in order of the names.
    order: Vec<(u32, u16)>,
    at: usize,
}

impl Names {
    fn read(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        let mut order = Vec::new();
        for found in fs::read_dir(path).map_err(|error| cannot_read(path, error))? {
            let name = found.map_err(|error| cannot_read(path, error))?.file_name();
            if name.to_str().is_none() {
                return Err(not_utf8(&path.join(name)));
            }
            let start = u32::try_from(text.len()).map_err(|_| {
                Error::new(
                    Kind::Unsupported,
                    format!("{} holds more than 4 GiB of file names", path.display()),
                )
            })?;
            order.push((start, name.len() as u16));
            text.extend_from_slice(name.as_bytes());
        }
        order.sort_unstable_by(|a, b| slice(&text, *a).cmp(slice(&text, *b)));
        Ok(Self { text, order, at: 0 })
    }

    fn next(&mut self) -> Option<String> {
        let span = *self.order.get(self.at)?;
        self.at += 1;
        Some(String::from_utf8_lossy(slice(&self.text, span)).into_owned())
    }
}

fn slice(text: &[u8], (start, length): (u32, u16)) -> &[u8] {
    &text[start as usize..start as usize + usize::from(length)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        for folder in ["base/5", "pg_wal/archive_status", "global", "pg_tblspc", "pg_stat_tmp"] {
            fs::create_dir_all(data.join(folder)).unwrap();
        }
        fs::create_dir_all(root.path().join("ts/PG_17/5")).unwrap();
        symlink(root.path().join("ts/"), data.join("pg_tblspc/16384")).unwrap();
        symlink("../elsewhere", data.join("conf")).unwrap();
        for (file, size) in [
            ("PG_VERSION", 3),
            ("base/5/10", 8192),
            ("base/5/2", 0),
            ("global/pg_control", 8192),
            ("pg_wal/000000010000000000000001", 9),
            ("postmaster.pid", 5),
            ("pg_stat_tmp/x", 1),
            ("../ts/PG_17/5/77", 16384),
        ] {
            fs::write(data.join(file), vec![1; size]).unwrap();
        }
        root
    }

    #[test]
    fn the_walk_gives_what_belongs_to_a_backup() {
        let root = tree();
        let mut walk = Walk::new(&root.path().join("data"));
        let mut seen = Vec::new();
        while let Some(entry) = walk.next().unwrap() {
            seen.push((entry.name, entry.size));
        }
        let names: Vec<_> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "/",
                "/PG_VERSION",
                "/base",
                "/base/5",
                "/base/5/10",
                "/base/5/2",
                "/conf",
                "/global",
                "/pg_stat_tmp",
                "/pg_tblspc",
                "/pg_tblspc/16384/PG_17",
                "/pg_tblspc/16384/PG_17/5",
                "/pg_tblspc/16384/PG_17/5/77",
                "/pg_wal",
            ]
        );
        assert_eq!(walk.control().unwrap().name, "/global/pg_control");
        assert_eq!(walk.tablespaces()[0].name, "16384");
        assert_eq!(Path::new(&walk.tablespaces()[0].target), root.path().join("ts"));
    }
}
