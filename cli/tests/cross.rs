//! Across tools: what Walport writes, a real WAL-G restores, and the other way
//! round. `WALG_BIN` names the wal-g; without it there is nothing to run, and
//! the summary says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::site::PGBENCH_DIGEST;
use common::{Site, Tool, bytes_like_a_table, random, tool, tree};

const CODECS: [&str; 5] = ["lz4", "zstd", "brotli", "lzma", "none"];

type Case = (&'static str, fn(&Path));

const CASES: [Case; 4] = [
    ("wal_in_every_codec_both_ways", wal_in_every_codec_both_ways),
    ("backups_in_every_codec_both_ways", backups_in_every_codec_both_ways),
    ("tablespaces_both_ways", tablespaces_both_ways),
    ("lists_and_documents_agree", lists_and_documents_agree),
];

fn main() -> ExitCode {
    let Some(walg) = tool::walg() else {
        println!("WALG_BIN names no wal-g: 0 of {} tests across tools were run", CASES.len());
        return ExitCode::SUCCESS;
    };
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&filter)) {
        match catch_unwind(AssertUnwindSafe(|| case(&walg))) {
            Ok(()) => passed += 1,
            Err(_) => failed.push(*name),
        }
        println!("test {name} ... {}", if failed.last() == Some(name) { "FAILED" } else { "ok" });
    }
    println!("across tools: {passed} passed; {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The site's tool, but with the program of WAL-G.
fn walg_of(site: &Site, walg: &Path) -> Tool {
    let tool = site.archive.tool(Tool::at(walg.to_owned(), &site.scratch));
    site.cluster.connect(tool)
}

fn wal_in_every_codec_both_ways(walg: &Path) {
    let mut rng = random("wal_in_every_codec_both_ways");
    let site = Site::new(17);
    let peer = walg_of(&site, walg);
    for (number, codec) in CODECS.into_iter().enumerate() {
        for (way, (writer, reader)) in [(&site.tool, &peer), (&peer, &site.tool)].iter().enumerate()
        {
            let name = format!("00000001000000AA0000{number:02X}{way:02X}");
            let file =
                site.scratch.file(&format!("wal/{name}"), bytes_like_a_table(&mut rng, 16 << 20));
            let writer = (*writer).clone().with("WALG_COMPRESSION_METHOD", codec);
            writer.run(&["wal-push", file.to_str().unwrap()]).success();
            let target = site.scratch.folder("fetched").join(&name);
            let reader = (*reader).clone().with("WALG_DOWNLOAD_CONCURRENCY", "1");
            reader.run(&["wal-fetch", &name, target.to_str().unwrap()]).success();
            assert_eq!(tree::sha256(&target), tree::sha256(&file), "{codec} way {way}");
        }
    }
    // Each takes the other's identical segment for done, and refuses another.
    let careful = |tool: &Tool| tool.clone().with("WALG_PREVENT_WAL_OVERWRITE", "true");
    let name = "00000001000000BB00000001";
    let file = site.scratch.file(&format!("wal/{name}"), bytes_like_a_table(&mut rng, 16 << 20));
    let other = site.scratch.file(&format!("other/{name}"), bytes_like_a_table(&mut rng, 16 << 20));
    careful(&peer).run(&["wal-push", file.to_str().unwrap()]).success();
    careful(&site.tool).run(&["wal-push", file.to_str().unwrap()]).success();
    careful(&site.tool).run(&["wal-push", other.to_str().unwrap()]).fails();
}

/// Restores a backup by both tools; the trees must be the same, and start.
fn assert_both_restore(site: &Site, peer: &Tool, backup: &str, wanted: &str) {
    let mut trees = Vec::new();
    for (name, tool) in [("ours", &site.tool), ("theirs", peer)] {
        let data = site.scratch.join(format!("{backup}-{name}"));
        tool.run(&["backup-fetch", data.to_str().unwrap(), backup]).success();
        trees.push(tree::digest(&data));
        let mut restored = site.recovering(&data, "");
        restored.start();
        assert_eq!(restored.sql(PGBENCH_DIGEST), wanted, "{backup} {name}");
        restored.stop();
        restored.assert_checksums();
        fs::remove_dir_all(&data).unwrap();
    }
    tree::assert_same(&format!("{backup}: ours and theirs"), &trees[0], &trees[1]);
}

fn backups_in_every_codec_both_ways(walg: &Path) {
    let site = Site::new(17);
    let peer = walg_of(&site, walg);
    site.cluster.pgbench_init(1);
    let wanted = site.cluster.sql(PGBENCH_DIGEST);
    let data = site.cluster.data().to_str().unwrap();
    for codec in CODECS {
        for tool in [&site.tool, &peer] {
            let tool = tool.clone().with("WALG_COMPRESSION_METHOD", codec);
            tool.run(&["backup-push", data]).success();
        }
    }
    for flag in ["--rating-composer", "--database-composer", "--without-files-metadata"] {
        site.tool.run(&["backup-push", data, flag]).success();
        peer.run(&["backup-push", data, flag]).success();
    }
    site.cluster.switch_wal();
    let backups = site.archive.backups();
    assert_eq!(backups.len(), 2 * (CODECS.len() + 3));
    for backup in backups {
        assert_both_restore(&site, &peer, &backup, &wanted);
    }
}

fn tablespaces_both_ways(walg: &Path) {
    for major in [14, 18] {
        let mut site = Site::new(major);
        let peer = walg_of(&site, walg);
        let space: PathBuf = site.scratch.folder("space");
        site.cluster.sql(&format!("create tablespace one location '{}'", space.display()));
        site.cluster.pgbench_init(1);
        site.cluster.sql("alter table pgbench_accounts set tablespace one");
        let wanted = site.cluster.sql(PGBENCH_DIGEST);
        let backups = [site.backup(&[]), {
            peer.run(&["backup-push", site.cluster.data().to_str().unwrap()]).success();
            site.archive.backups().pop().unwrap()
        }];
        site.cluster.switch_wal();
        site.destroy();
        for (backup, tool) in backups.iter().zip([&peer, &site.tool]) {
            fs::remove_dir_all(&space).unwrap();
            // WAL-G makes its links where the cluster was: restore there.
            let data = site.cluster.data().to_owned();
            tool.run(&["backup-fetch", data.to_str().unwrap(), backup]).success();
            let mut restored = site.recovering(&data, "");
            restored.start();
            assert_eq!(restored.sql(PGBENCH_DIGEST), wanted);
            restored.stop();
            restored.assert_checksums();
            fs::remove_dir_all(&data).unwrap();
        }
    }
}

fn lists_and_documents_agree(walg: &Path) {
    let site = Site::new(16);
    let peer = walg_of(&site, walg);
    site.backup(&["--add-user-data", r#"{"by":"walport"}"#]);
    let data = site.cluster.data().to_str().unwrap();
    peer.run(&["backup-push", data, "--permanent", "--add-user-data", r#"{"by":"walg"}"#])
        .success();
    let forms: [&[&str]; 5] =
        [&[], &["--pretty"], &["--json"], &["--json", "--pretty"], &["--detail", "--json"]];
    for flags in forms {
        let words = [&["backup-list"], flags].concat();
        let ours = site.tool.run(&words).success();
        let theirs = peer.run(&words).success();
        assert_eq!(ours.text(), theirs.text(), "{flags:?}");
    }
    // The same fields in the same order in each document.
    let fields = |key: &str| -> Vec<String> {
        let bytes = fs::read(site.archive.object(key)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let backups = site.archive.backups();
    for suffix in ["_backup_stop_sentinel.json", "/metadata.json"] {
        let [ours, theirs] =
            [0, 1].map(|at| fields(&format!("basebackups_005/{}{suffix}", backups[at])));
        assert_eq!(ours, theirs, "{suffix}");
    }
}
