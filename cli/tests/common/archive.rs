//! An archive: a place in the file store, and what the tests do with its files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Scratch, Tool, user};

/// A prefix of the file store.
#[derive(Debug, Clone)]
pub struct Archive {
    root: PathBuf,
}

impl Archive {
    /// An empty one in the scratch folder.
    pub fn new(scratch: &Scratch, name: &str) -> Self {
        Self { root: scratch.folder(name) }
    }

    /// One that is there already.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The tool, working on this archive.
    pub fn tool(&self, tool: Tool) -> Tool {
        tool.with("WALG_FILE_PREFIX", &self.root)
    }

    /// Walport, working on this archive.
    pub fn walport(&self, scratch: &Scratch) -> Tool {
        self.tool(Tool::walport(scratch))
    }

    /// The path of an object.
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The keys of every file below `prefix`, temporary ones too, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut folders = vec![self.root.join(prefix)];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.expect("read_dir").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&self.root).expect("inside");
                    keys.push(key.to_str().expect("utf-8").to_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    /// The names of the backups whose sentinel is there, sorted.
    pub fn backups(&self) -> Vec<String> {
        self.keys("basebackups_005")
            .iter()
            .filter_map(|key| {
                let name = key.strip_prefix("basebackups_005/")?;
                name.strip_suffix("_backup_stop_sentinel.json").map(str::to_owned)
            })
            .collect()
    }

    /// The keys of a backup's parts, sorted.
    pub fn parts(&self, backup: &str) -> Vec<String> {
        self.keys(&format!("basebackups_005/{backup}/tar_partitions"))
    }

    /// Changes the bytes of an object.
    pub fn rewrite(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.object(key);
        let mut bytes = fs::read(&path).expect("read");
        change(&mut bytes);
        fs::remove_file(&path).expect("remove");
        fs::write(&path, bytes).expect("write");
        user::give(&path);
    }
}
