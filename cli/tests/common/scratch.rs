//! A folder for one test, open to the worker, removed at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::user;

/// A temporary folder. Its path is short, since a socket's path may have no
/// more than 107 bytes.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// A new one, in `WALPORT_TEST_TMP`, or in `/tmp`.
    pub fn new() -> Self {
        let parent =
            std::env::var_os("WALPORT_TEST_TMP").map_or_else(|| "/tmp".into(), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("wp-").tempdir_in(parent).expect("tempdir");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        user::give(folder.path());
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("create_dir_all");
        let mut made = path.as_path();
        while made != self.path() {
            if let Some(user) = user::worker() {
                std::os::unix::fs::chown(made, Some(user.uid), Some(user.gid)).expect("chown");
            }
            made = made.parent().expect("parent");
        }
        path
    }

    /// Writes a file in it.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let parent = path.parent().expect("parent").strip_prefix(self.path()).expect("inside");
        self.folder(parent.to_str().expect("utf-8"));
        fs::write(&path, bytes).expect("write");
        user::give(&path);
        path
    }

    /// Copies a tree into it, writable.
    pub fn copy_of(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.join(name);
        copy_tree(from, &to);
        user::give(&to);
        to
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create_dir_all");
    for entry in fs::read_dir(from).expect("read_dir") {
        let entry = entry.expect("read_dir");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("file_type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copy");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).expect("chmod");
        }
    }
}
