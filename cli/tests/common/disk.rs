//! A place with little room.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Scratch, Tool, user};

/// A folder that holds only so many bytes: a file system of its own where we may
/// mount one, and otherwise a limit on the size of a file, which gives the same
/// kind of failure in the middle of a write.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    size: u64,
    mounted: bool,
}

impl SmallDisk {
    /// A folder of `size` bytes.
    pub fn new(scratch: &Scratch, name: &str, size: u64) -> Self {
        let path = scratch.folder(name);
        let mounted = user::worker().is_some_and(|worker| {
            let options = format!("size={size},uid={},gid={},mode=755", worker.uid, worker.gid);
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path);
            mount.output().is_ok_and(|output| output.status.success())
        });
        Self { path, size, mounted }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tool as it has to run for the limit to hold.
    pub fn limit(&self, tool: Tool) -> Tool {
        if self.mounted {
            return tool;
        }
        // The signal would end the program; ignored, the write fails instead.
        let script = "trap '' XFSZ; exec prlimit --fsize=\"$0\" -- \"$@\"";
        tool.under(&["sh", "-c", script, &self.size.to_string()])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
    }
}
