//! Memory is a limit that the operator sets. Every operation runs under a hard
//! limit on the address space, with the default settings, and does not grow with
//! what it works on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::measure::{Peaks, peaks};
use common::site::PGBENCH_DIGEST;
use common::{Archive, Scratch, Site, Tool, bytes_like_a_table, random, tree, user};

/// 96 MiB: what the default limit promises.
const HARD_LIMIT: &str = "--as=100663296";
/// What more files may cost, in KiB: 30,000 long names are 1.5 MiB, and the
/// records of them would be several times that.
const ALLOWANCE: u64 = 3 << 10;
const CODECS: [&str; 5] = ["lz4", "zstd", "brotli", "lzma", "none"];

#[test]
fn wal_moves_under_96_mib_in_every_codec() {
    let mut rng = random("wal_moves_under_96_mib_in_every_codec");
    for codec in CODECS {
        let scratch = Scratch::new();
        let archive = Archive::new(&scratch, "archive");
        let walport =
            archive.walport(&scratch).limited(HARD_LIMIT).with("WALG_COMPRESSION_METHOD", codec);
        let name = "000000010000000000000001";
        let bytes = bytes_like_a_table(&mut rng, 16 << 20);
        let file = scratch.file(&format!("pg_wal/{name}"), &bytes);
        walport.run(&["wal-push", file.to_str().unwrap()]).success();
        let target = scratch.folder("fetched").join(name);
        walport.run(&["wal-fetch", name, target.to_str().unwrap()]).success();
        assert!(fs::read(target).unwrap() == bytes, "{codec}");
    }
}

#[test]
fn backups_are_taken_listed_and_restored_under_96_mib() {
    // The server archives through the same limit, and so does recovery.
    let mut site = Site::with(17, |_, tool| tool.limited(HARD_LIMIT));
    site.cluster.pgbench_init(2);
    let wanted = site.cluster.sql(PGBENCH_DIGEST);
    for codec in CODECS {
        let tool = site.tool.clone().with("WALG_COMPRESSION_METHOD", codec);
        tool.run(&["backup-push", site.cluster.data().to_str().unwrap()]).success();
    }
    site.cluster.switch_wal();
    let backups = site.archive.backups();
    assert_eq!(backups.len(), CODECS.len());
    let listed = site.tool.run(&["backup-list", "--detail", "--json"]).success();
    assert_eq!(listed.text().matches("backup_name").count(), CODECS.len());
    site.destroy();
    for backup in &backups {
        let data = site.restore(backup, &[backup]);
        let mut restored = site.recovering(&data, "");
        restored.start();
        assert_eq!(restored.sql(PGBENCH_DIGEST), wanted);
        restored.stop();
    }
}

#[test]
fn any_concurrency_that_is_asked_for_fits() {
    let site = Site::with(17, |_, tool| tool.limited(HARD_LIMIT));
    site.cluster.pgbench_init(1);
    for concurrency in ["1", "4", "16", "64"] {
        let tool = site
            .tool
            .clone()
            .with("WALG_UPLOAD_CONCURRENCY", concurrency)
            .with("WALG_UPLOAD_DISK_CONCURRENCY", concurrency)
            .with("WALG_DOWNLOAD_CONCURRENCY", concurrency)
            .with("WALG_TAR_SIZE_THRESHOLD", "4194304");
        tool.run(&["backup-push", site.cluster.data().to_str().unwrap()]).success();
        let target = site.scratch.join(format!("restored{concurrency}"));
        tool.run(&["backup-fetch", target.to_str().unwrap(), "LATEST"]).success();
        assert!(target.join("global/pg_control").is_file());
    }
}

#[test]
fn a_limit_that_cannot_work_is_refused_with_the_one_that_would() {
    let mut rng = random("a_limit_that_cannot_work_is_refused_with_the_one_that_would");
    let site = Site::new(17);
    let name = "000000010000000000000099";
    let file = site.scratch.file(&format!("wal/{name}"), bytes_like_a_table(&mut rng, 16 << 20));
    let data = site.cluster.data().to_str().unwrap().to_owned();
    let commands = [["wal-push", file.to_str().unwrap()], ["backup-push", &data]];
    for command in commands {
        let before = site.archive.keys("").len();
        let refused = site.tool.clone().with("WALPORT_MEMORY_LIMIT", "1MiB").run(&command).fails();
        assert_eq!(site.archive.keys("").len(), before, "work began\n{refused}");
        let least = numbers_of_mib(&refused.stderr)
            .into_iter()
            .find(|mib| *mib > 1)
            .unwrap_or_else(|| panic!("no limit that would work is named\n{refused}"));
        let limit = format!("{least}MiB");
        site.tool.clone().with("WALPORT_MEMORY_LIMIT", &limit).run(&command).success();
    }
}

/// The numbers in front of `MiB` in a text.
fn numbers_of_mib(text: &str) -> Vec<u64> {
    text.match_indices("MiB")
        .filter_map(|(at, _)| {
            let before = text[..at].trim_end();
            let start = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |last| last + 1);
            before[start..].parse().ok()
        })
        .collect()
}

fn run_and_measure(tool: &Tool, arguments: &[&str]) -> Peaks {
    let mut child =
        tool.command(arguments).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let peaks = peaks(&mut child);
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    peaks
}

fn many_files(folder: &Path, count: usize) {
    for number in 0..count {
        let part = folder.join(format!("{:03}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&part).unwrap();
        }
        fs::write(part.join(format!("a file with a rather long name {number}")), [b'x'; 20])
            .unwrap();
    }
    user::give(folder);
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    let site = Site::new(17);
    let data = site.cluster.data().to_str().unwrap().to_owned();
    let mut pushes = Vec::new();
    let mut fetches = Vec::new();
    for (round, count) in [0, 30_000].into_iter().enumerate() {
        let extra = site.cluster.data().join("extra");
        fs::create_dir_all(&extra).unwrap();
        many_files(&extra, count);
        pushes.push(run_and_measure(&site.tool, &["backup-push", &data]));
        let target = site.scratch.join(format!("restored{round}"));
        let words = ["backup-fetch", target.to_str().unwrap(), "LATEST"];
        fetches.push(run_and_measure(&site.tool, &words));
        let restored = tree::digest(&target);
        assert_eq!(restored.iter().filter(|line| line.contains("rather long name")).count(), count);
    }
    for (what, measured) in [("backup-push", pushes), ("backup-fetch", fetches)] {
        println!("{what}: few files {:?}, many {:?}", measured[0], measured[1]);
        let [few, many] = [measured[0], measured[1]];
        assert!(many.resident <= few.resident + ALLOWANCE, "{what}: {few:?} {many:?}");
        assert!(many.address_space <= few.address_space + ALLOWANCE, "{what}: {few:?} {many:?}");
    }
}
