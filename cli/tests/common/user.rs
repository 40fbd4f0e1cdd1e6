//! Who runs the programs under test.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// An account of this machine.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The account that PostgreSQL and the programs under test run as: `postgres`
/// (or `nobody`) when the tests run as root; `None` means as we are.
pub fn worker() -> Option<User> {
    static WORKER: OnceLock<Option<User>> = OnceLock::new();
    *WORKER.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").expect("no /etc/passwd");
        let find = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("no unprivileged account"))
    })
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    worker().is_some()
}

/// Makes the command run as the worker.
pub fn run_as_worker(command: &mut Command) {
    if let Some(user) = worker() {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Gives a file, or a tree, to the worker.
pub fn give(path: &Path) {
    let Some(user) = worker() else { return };
    chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    let meta = std::fs::symlink_metadata(path).expect("stat");
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).expect("read_dir") {
            let entry = entry.expect("read_dir").path();
            if entry.is_symlink() {
                std::os::unix::fs::lchown(&entry, Some(user.uid), Some(user.gid)).expect("lchown");
            } else {
                give(&entry);
            }
        }
    }
}

/// Whether any account may pass through every folder above `path`.
pub fn reachable_by_all(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter(|folder| !folder.as_os_str().is_empty())
        .all(|folder| std::fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0))
}
