//! A cluster with its archive: what most backup tests begin with.

use std::fs;
use std::path::PathBuf;

use super::{Archive, Cluster, Recovery, Run, Scratch, Tool};

/// A running cluster that archives, and the tool that backs it up.
#[derive(Debug)]
pub struct Site {
    // The cluster must stop before its folder goes: fields drop in this order.
    /// The cluster.
    pub cluster: Cluster,
    /// The tool, with its archive and its connection set.
    pub tool: Tool,
    /// The archive.
    pub archive: Archive,
    /// The folder of it all.
    pub scratch: Scratch,
}

impl Site {
    /// With Walport as the tool.
    pub fn new(major: u32) -> Self {
        Self::with(major, |_, tool| tool)
    }

    /// The same, with a last word on the cluster and the tool before the start.
    pub fn with(major: u32, adjust: impl FnOnce(&Cluster, Tool) -> Tool) -> Self {
        let scratch = Scratch::new();
        let archive = Archive::new(&scratch, "archive");
        let mut cluster = Cluster::new(major, &scratch, "main");
        let tool = adjust(&cluster, archive.walport(&scratch));
        cluster.archive_with(&tool, &scratch);
        let tool = cluster.connect(tool);
        cluster.start();
        Self { cluster, tool, archive, scratch }
    }

    /// Runs `backup-push` on the cluster's directory with more arguments.
    #[track_caller]
    pub fn push(&self, more: &[&str]) -> Run {
        let data = self.cluster.data().to_str().expect("utf-8");
        self.tool.run(&[&["backup-push", data], more].concat())
    }

    /// Takes a backup and returns its name.
    #[track_caller]
    pub fn backup(&self, more: &[&str]) -> String {
        let before = self.archive.backups();
        let run = self.push(more).success();
        assert!(run.stdout.is_empty(), "{run}");
        let mut new = self.archive.backups();
        new.retain(|name| !before.contains(name));
        assert_eq!(new.len(), 1, "{before:?} {new:?}\n{run}");
        new.remove(0)
    }

    /// Restores a backup into a new folder.
    #[track_caller]
    pub fn restore(&self, target: &str, more: &[&str]) -> PathBuf {
        let path = self.scratch.join(target);
        let words = [&["backup-fetch", path.to_str().expect("utf-8")], more].concat();
        let run = self.tool.run(&words).success();
        assert!(run.stdout.is_empty(), "{run}");
        path
    }

    /// A cluster on a restored directory, recovering from the archive.
    pub fn recovering(&self, data: &std::path::Path, target: &str) -> Cluster {
        let fetch = self.tool.shell(&self.scratch, "wal-fetch \"%f\" \"%p\"");
        let recovery = Recovery { restore_command: fetch, target };
        let cluster = Cluster::restored(self.cluster.major(), &self.scratch, data, &recovery);
        cluster.configure("archive_mode = off");
        cluster
    }

    /// Removes the data directory of the stopped cluster.
    pub fn destroy(&mut self) {
        self.cluster.stop();
        fs::remove_dir_all(self.cluster.data()).expect("remove_dir_all");
    }
}

/// What the tables of pgbench hold, in a few characters.
pub const PGBENCH_DIGEST: &str = "select count(*), sum(hashtext(t::text)::bigint) from (\
     select a::text from pgbench_accounts a union all select b::text from pgbench_branches b \
     union all select r::text from pgbench_tellers r union all select h::text from pgbench_history h) t";
