//! What WAL-G wrote, read by Walport: the golden trees, which a real WAL-G made.
//!
//! The repository has a compact set. `WALPORT_TEST_GOLDEN` names a folder with a
//! larger one of the same form.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Archive, Scratch, tree};
use serde_json::Value;

fn golden() -> PathBuf {
    std::env::var_os("WALPORT_TEST_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("conformance/golden"),
        PathBuf::from,
    )
}

/// An object of the golden set that holds a hex dump by mistake. It must be
/// refused, not decoded to something.
const SPOILED: (&str, &str) = ("wal-lzma", "000000010000000000000011");

/// The names in the golden folder that end like this, without the end, sorted.
fn named(end: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(golden())
        .expect("conformance/golden")
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(end).map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

/// A golden tree as an archive. The programs only read it, but file stores are
/// given to them writable, so it is a copy.
fn archive(scratch: &Scratch, prefix: &str) -> Archive {
    Archive::at(scratch.copy_of(&golden().join(prefix), prefix))
}

/// Whether a tree needs what cannot be read yet: ciphers and deltas.
fn beyond(prefix: &str, backup: &str) -> bool {
    prefix.contains("nacl") || prefix.contains("openpgp") || backup.contains("_D_")
}

/// The two halves of a `.restored` file: the data directory, the tablespace.
fn wanted(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut data = BTreeSet::new();
    let mut space = BTreeSet::new();
    let mut in_space = false;
    for line in text.lines() {
        if line.starts_with('#') {
            in_space = true;
        } else if in_space {
            space.insert(line.to_owned());
        } else {
            data.insert(line.to_owned());
        }
    }
    (data, space)
}

/// Restores one backup and compares it with what WAL-G's own restore gave.
fn assert_restores(prefix: &str, backup: &str) {
    let scratch = Scratch::new();
    let archive = archive(&scratch, prefix);
    let tool = archive.walport(&scratch);
    let sentinel = archive.object(&format!("basebackups_005/{backup}_backup_stop_sentinel.json"));
    let sentinel: Value = serde_json::from_slice(&fs::read(sentinel).unwrap()).unwrap();
    let data = scratch.join("main");
    let space = scratch.join("ts");
    let mut words = vec!["backup-fetch".to_owned(), data.display().to_string(), backup.to_owned()];
    for oid in sentinel["Spec"]["tablespaces"].as_array().into_iter().flatten() {
        words.push("--tablespace-map".to_owned());
        words.push(format!("{}={}", oid.as_str().unwrap(), space.display()));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tool.run(&words).success();

    let restored =
        fs::read_to_string(golden().join(format!("{prefix}.{backup}.restored"))).unwrap();
    let (mut wanted_data, wanted_space) = wanted(&restored);
    let home = scratch.path().display().to_string();
    let mut found: BTreeSet<String> =
        tree::digest(&data).into_iter().map(|line| line.replace(&home, "@")).collect();
    if words.contains(&"--tablespace-map") {
        // The server would follow this file to the old place: it must be gone or new.
        wanted_data.retain(|line| !line.ends_with(" tablespace_map"));
        found.retain(|line| !line.ends_with(" tablespace_map"));
        let map = fs::read_to_string(data.join("tablespace_map")).unwrap_or_default();
        assert!(map.is_empty() || map.contains(space.to_str().unwrap()), "{map}");
    }
    tree::assert_same(&format!("{prefix} {backup}"), &found, &wanted_data);
    if !wanted_space.is_empty() {
        tree::assert_same(
            &format!("{prefix} {backup} tablespace"),
            &tree::digest(&space),
            &wanted_space,
        );
    }
}

#[test]
fn every_backup_restores_to_the_tree_that_wal_g_restored() {
    let mut compared = 0;
    for name in named(".restored") {
        let (prefix, backup) = name.split_once('.').unwrap();
        if beyond(prefix, backup) {
            continue;
        }
        println!("{prefix} {backup}");
        assert_restores(prefix, backup);
        compared += 1;
    }
    assert!(compared >= 2, "only {compared} golden backups were found");
}

#[test]
fn every_wal_file_decodes_to_its_digest() {
    let sums = fs::read_to_string(golden().join("wal.sha256")).unwrap();
    let mut compared = BTreeSet::new();
    for prefix in named("") {
        let other_cluster = prefix == "waldelta-pg14";
        if !golden().join(&prefix).join("wal_005").is_dir() || other_cluster || beyond(&prefix, "")
        {
            continue;
        }
        let scratch = Scratch::new();
        let archive = archive(&scratch, &prefix);
        let tool = archive.walport(&scratch).with("WALG_DOWNLOAD_CONCURRENCY", "1");
        let target = scratch.folder("fetched");
        let keys = archive.keys("wal_005");
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let object = format!("wal_005/{name}");
            let extensions = ["", ".lz4", ".zst", ".br", ".lzma"];
            if !extensions.iter().any(|end| keys.contains(&format!("{object}{end}"))) {
                continue;
            }
            let path = target.join(name);
            let run = tool.run(&["wal-fetch", name, path.to_str().unwrap()]);
            if (prefix.as_str(), name) == SPOILED {
                run.fails();
                continue;
            }
            run.success();
            assert_eq!(tree::sha256(&path), sum, "{prefix} {name}");
            compared.insert(prefix.clone());
        }
    }
    for codec in ["brotli", "lz4", "lzma", "none", "zstd"] {
        assert!(compared.contains(&format!("wal-{codec}")), "nothing of {codec} in {compared:?}");
    }
}

/// Gives the sentinels the times they had, which WAL-G printed in its JSON.
fn set_times(archive: &Archive, listed: &Value) {
    for backup in listed.as_array().unwrap() {
        let name = backup["backup_name"].as_str().unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(backup["time"].as_str().unwrap()).unwrap();
        let path = archive.object(&format!("basebackups_005/{name}_backup_stop_sentinel.json"));
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(time.into()).unwrap();
    }
}

#[test]
fn backup_lists_are_what_wal_g_printed() {
    let forms: [(&str, &[&str]); 4] = [
        ("backuplist", &[]),
        ("backuplistpretty", &["--pretty"]),
        ("backuplistjson", &["--json"]),
        ("backuplistdetailjson", &["--detail", "--json"]),
    ];
    let prefixes = named(".backuplistjson.out");
    assert!(prefixes.len() >= 5, "{prefixes:?}");
    for prefix in prefixes {
        let scratch = Scratch::new();
        let archive = archive(&scratch, &prefix);
        let tool = archive.walport(&scratch).with("TZ", "UTC");
        let read =
            |form: &str| fs::read_to_string(golden().join(format!("{prefix}.{form}.out"))).unwrap();
        set_times(&archive, &serde_json::from_str(&read("backuplistjson")).unwrap());
        for (form, flags) in forms {
            let run = tool.run(&[&["backup-list"], flags].concat()).success();
            assert_eq!(run.text(), read(form), "{prefix} {form}");
        }
    }
}
