//! What the file store does, on real directories.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod behaviour;
mod faults;
mod listing;

use std::path::{Path, PathBuf};

use walport_engine::memory::Budget;
use walport_engine::storage::Key;

use super::FileStore;

struct Archive {
    store: FileStore,
    root: tempfile::TempDir,
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

async fn open(root: &Path) -> FileStore {
    FileStore::open(root.to_owned(), Budget::new(16 << 20)).await.unwrap()
}

async fn archive() -> Archive {
    let root = tempfile::tempdir().unwrap();
    Archive { store: open(root.path()).await, root }
}

impl Archive {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Every file and directory below the root, hidden ones too.
    fn tree(&self) -> Vec<String> {
        fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                if path.is_dir() {
                    walk(&path, root, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.root.path(), self.root.path(), &mut found);
        found.sort();
        found
    }
}
