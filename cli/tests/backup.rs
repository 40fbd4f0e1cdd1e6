//! `backup-push`, `backup-fetch` and `backup-list` on real clusters.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::site::PGBENCH_DIGEST;
use common::{Site, random, tree, user, wait_for};
use serde_json::Value;

/// Archive, back up under load, lose everything, restore, recover to the end.
fn whole_circle(major: u32) {
    let mut site = Site::new(major);
    site.cluster.pgbench_init(3);
    let load = site.cluster.pgbench();
    thread::sleep(Duration::from_millis(500));
    let backup = site.backup(&[]);
    load.end();
    let sessions = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
    wait_for("the end of the load", Duration::from_secs(20), || site.cluster.sql(sessions) == "0");
    let written = site.cluster.sql("select count(*) from pgbench_history");
    assert_ne!(written, "0", "nothing was written meanwhile");
    let wanted = site.cluster.sql(PGBENCH_DIGEST);
    site.cluster.switch_wal();
    site.destroy();

    let data = site.restore("restored", &[&backup]);
    let mut restored = site.recovering(&data, "");
    restored.start();
    assert_eq!(restored.sql(PGBENCH_DIGEST), wanted);
    restored.assert_sound();
    restored.stop();
    restored.assert_checksums();
}

#[test]
fn the_whole_circle_on_14() {
    whole_circle(14);
}

#[test]
fn the_whole_circle_on_15() {
    whole_circle(15);
}

#[test]
fn the_whole_circle_on_16() {
    whole_circle(16);
}

#[test]
fn the_whole_circle_on_17() {
    whole_circle(17);
}

#[test]
fn the_whole_circle_on_18() {
    whole_circle(18);
}

/// A stopped cluster's tree, as a restore of it must look: less what a backup
/// leaves out.
fn expected(data: &Path) -> std::collections::BTreeSet<String> {
    let emptied = [
        "log",
        "pg_log",
        "pg_wal",
        "pgsql_tmp",
        "pg_dynshmem",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_stat_tmp",
        "pg_snapshots",
        "pg_subtrans",
    ];
    let absent = ["postmaster.pid", "postmaster.opts"];
    tree::digest(data)
        .into_iter()
        .filter(|line| {
            let path = line.rsplit(' ').next().unwrap();
            let inside = emptied.iter().any(|folder| path.starts_with(&format!("{folder}/")));
            !inside && !absent.contains(&path)
        })
        .collect()
}

/// The lines of files that the test itself placed.
fn placed(lines: std::collections::BTreeSet<String>) -> std::collections::BTreeSet<String> {
    lines
        .into_iter()
        .filter(|line| line.contains("base/5/9999") || line.contains("extra"))
        .collect()
}

#[test]
fn every_option_of_a_backup_restores_the_same_tree() {
    let site = Site::new(17);
    site.cluster.sql("create database other");
    site.cluster.pgbench_init(1);
    let folder = site.cluster.data().join("extra");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("with space and ünïcode"), "content").unwrap();
    fs::write(folder.join("x".repeat(180)), "a name longer than a tar header holds").unwrap();
    fs::create_dir(folder.join("empty folder")).unwrap();
    fs::set_permissions(folder.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    user::give(&folder);
    site.cluster.sql("checkpoint");

    let options: [&[&str]; 6] = [
        &["--full"],
        &["--rating-composer"],
        &["--database-composer"],
        &["--without-files-metadata"],
        &["--permanent"],
        &["--verify"],
    ];
    for (number, options) in options.iter().enumerate() {
        let backup = site.backup(options);
        let data = site.restore(&format!("restored{number}"), &[&backup]);
        let wanted = placed(expected(site.cluster.data()));
        assert_eq!(wanted.len(), 5);
        tree::assert_same(&format!("{options:?}"), &placed(tree::digest(&data)), &wanted);
        for name in ["base", "global", "pg_wal", "pg_tblspc", "pg_replslot", "pg_notify"] {
            assert!(data.join(name).is_dir(), "{options:?}: no {name}");
        }
        for name in ["postmaster.pid", "postmaster.opts"] {
            assert!(!data.join(name).exists(), "{options:?}: {name} was restored");
        }
        assert!(data.join("backup_label").is_file(), "{options:?}");
        let mut restored = site.recovering(&data, "");
        site.cluster.switch_wal();
        restored.start();
        assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "100000");
        restored.stop();
        restored.assert_checksums();
    }
    assert_eq!(site.archive.backups().len(), options.len());
}

#[test]
fn parts_are_cut_by_size_and_named_in_order() {
    let site = Site::with(17, |_, tool| {
        tool.with("WALG_TAR_SIZE_THRESHOLD", "4194304").with("WALG_COMPRESSION_METHOD", "zstd")
    });
    let backup = site.backup(&[]);
    let parts = site.archive.parts(&backup);
    let name = |part: &str| format!("basebackups_005/{backup}/tar_partitions/{part}");
    assert!(parts.len() > 5, "{parts:?}");
    assert!(parts.contains(&name("part_001.tar.zst")), "{parts:?}");
    assert!(parts.contains(&name("part_005.tar.zst")), "{parts:?}");
    assert!(parts.contains(&name("pg_control.tar.zst")), "{parts:?}");
    let data = site.restore("restored", &["LATEST"]);
    assert!(data.join("global/pg_control").is_file());
}

#[test]
fn documents_say_what_was_asked() {
    let site = Site::new(16);
    let user_data = r#"{"ticket":42,"who":"a & <b>"}"#;
    let backup = site.backup(&["--permanent", "--add-user-data", user_data]);
    let read = |key: String| -> Value {
        serde_json::from_slice(&fs::read(site.archive.object(&key)).unwrap()).unwrap()
    };
    let sentinel = read(format!("basebackups_005/{backup}_backup_stop_sentinel.json"));
    assert_eq!(sentinel["UserData"], serde_json::from_str::<Value>(user_data).unwrap());
    assert_eq!(sentinel["IsPermanent"], true);
    assert_eq!(sentinel["PgVersion"].as_u64().unwrap() / 10_000, 16);
    let system = site.cluster.sql("select system_identifier from pg_control_system()");
    assert_eq!(sentinel["SystemIdentifier"].to_string(), system);
    let metadata = read(format!("basebackups_005/{backup}/metadata.json"));
    assert_eq!(metadata["is_permanent"], true);
    assert_eq!(metadata["data_dir"].as_str().unwrap(), site.cluster.data().to_str().unwrap());
    let files = read(format!("basebackups_005/{backup}/files_metadata.json"));
    assert!(files["Files"].as_object().unwrap().len() > 900);
    assert!(files["TarFileSets"].as_object().unwrap().contains_key("part_001.tar.lz4"));

    // A later backup without the data: the first is found by what it carries.
    let later = site.backup(&[]);
    assert_ne!(later, backup);
    site.restore("restored", &["--target-user-data", user_data]);
    let label = fs::read_to_string(site.scratch.join("restored/backup_label")).unwrap();
    assert!(label.contains(&backup["base_".len()..]), "{label}");
    let both = site.scratch.join("both");
    site.tool
        .run(&["backup-fetch", both.to_str().unwrap(), "--target-user-data", r#"{"no":1}"#])
        .fails();
    assert!(!both.join("PG_VERSION").exists());
}

#[test]
fn lists_come_in_every_form() {
    let site = Site::new(15);
    let first = site.backup(&[]);
    thread::sleep(Duration::from_millis(1100));
    let second = site.backup(&["--permanent"]);
    let plain = site.tool.run(&["backup-list"]).success();
    let lines: Vec<_> = plain.text().lines().collect();
    assert_eq!(lines.len(), 3, "{plain}");
    assert!(lines[0].starts_with("backup_name"), "{plain}");
    assert!(lines[1].starts_with(&first) && lines[2].starts_with(&second), "{plain}");

    let json: Value =
        serde_json::from_str(site.tool.run(&["backup-list", "--json"]).success().text()).unwrap();
    assert_eq!(json[1]["backup_name"].as_str().unwrap(), second);
    assert_eq!(json[1]["wal_file_name"].as_str().unwrap(), &second["base_".len()..]);

    let detail = site.tool.run(&["backup-list", "--detail", "--json"]).success();
    let json: Value = serde_json::from_str(detail.text()).unwrap();
    assert_eq!(json[0]["is_permanent"], false);
    assert_eq!(json[1]["is_permanent"], true);
    assert!(
        json[0]["uncompressed_size"].as_u64().unwrap()
            > json[0]["compressed_size"].as_u64().unwrap()
    );

    let pretty = site.tool.run(&["backup-list", "--pretty"]).success();
    assert!(pretty.text().to_uppercase().contains("BACKUP NAME"), "{pretty}");
}

#[test]
fn a_mask_restores_a_part() {
    let site = Site::new(17);
    site.backup(&[]);
    let data = site.restore("restored", &["LATEST", "--mask", "global/*"]);
    assert!(data.join("global/pg_filenode.map").is_file());
    assert!(!data.join("PG_VERSION").exists());
    let base = data.join("base");
    assert!(!base.exists() || !base.join("1/PG_VERSION").exists());
}

#[test]
fn mistakes_are_refused_before_work_begins() {
    let mut site = Site::new(17);
    let backup = site.backup(&[]);
    let elsewhere = site.scratch.folder("elsewhere");
    site.tool.run(&["backup-push", elsewhere.to_str().unwrap()]).fails();
    assert_eq!(site.archive.backups(), [backup]);

    let taken = site.scratch.file("taken/mine", "mine");
    let folder = taken.parent().unwrap().to_str().unwrap();
    site.tool.run(&["backup-fetch", folder, "LATEST"]).fails();
    assert_eq!(tree::digest(Path::new(folder)).len(), 1);

    let target = site.scratch.join("target");
    let target = target.to_str().unwrap();
    site.tool.run(&["backup-fetch", target, "base_0000000100000000000000FF"]).fails();
    site.tool.run(&["backup-fetch", target]).exits(1);
    site.tool.run(&["backup-fetch"]).exits(1);

    site.cluster.stop();
    site.push(&[]).fails();
}

#[test]
fn corrupt_pages_are_reported_and_kept() {
    let mut site = Site::new(17);
    site.cluster.sql("create table victim as select generate_series(1, 5000) as i; checkpoint");
    let file = site.cluster.sql("select pg_relation_filepath('victim')");
    site.cluster.stop();
    let handle = OpenOptions::new().write(true).open(site.cluster.data().join(&file)).unwrap();
    for page in [3, 7] {
        handle.write_all_at(b"spoiled", page * 8192 + 4000).unwrap();
    }
    site.cluster.start();

    let backup = site.backup(&["--verify"]);
    let metadata = site.archive.object(&format!("basebackups_005/{backup}/files_metadata.json"));
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    let entry = &metadata["Files"][format!("/{file}")];
    assert_eq!(entry["CorruptBlocks"]["CorruptBlocksCount"], 2, "{entry}");
    assert_eq!(entry["CorruptBlocks"]["SomeCorruptBlocks"], serde_json::json!([3, 7]));

    let data = site.restore("restored", &[&backup]);
    assert_eq!(tree::sha256(&data.join(&file)), tree::sha256(&site.cluster.data().join(&file)));
}

/// Ends the threads of a test when it fails, too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_that_change_while_they_are_read_do_no_harm() {
    let mut rng = random("files_that_change_while_they_are_read_do_no_harm");
    let site = Site::new(17);
    site.cluster.pgbench_init(2);
    let folder = site.cluster.data().join("extra");
    fs::create_dir(&folder).unwrap();
    for number in 0..300 {
        fs::write(folder.join(format!("f{number}")), vec![7; rng.usize(0..200_000)]).unwrap();
    }
    user::give(&folder);

    let done = AtomicBool::new(false);
    let backup = thread::scope(|scope| {
        scope.spawn(|| {
            // Grows, shrinks, vanishes, appears: whatever the backup is at.
            while !done.load(Ordering::Relaxed) {
                let path = folder.join(format!("f{}", rng.u32(0..300)));
                match rng.u8(0..4) {
                    0 => drop(fs::remove_file(&path)),
                    1 => drop(fs::write(&path, vec![9; rng.usize(0..300_000)])),
                    change => {
                        let Ok(mut file) = OpenOptions::new().write(true).open(&path) else {
                            continue;
                        };
                        if change == 2 {
                            file.set_len(rng.u64(0..1000)).unwrap();
                        } else {
                            file.seek(SeekFrom::End(0)).unwrap();
                            file.write_all(&vec![8; rng.usize(0..300_000)]).unwrap();
                        }
                    }
                }
                if path.exists() {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
                    user::give(&path);
                }
            }
        });
        scope.spawn(|| {
            // Whole tables come and go too.
            while !done.load(Ordering::Relaxed) {
                site.cluster.sql("create table comes as select generate_series(1, 3000) as i");
                site.cluster.sql("truncate comes; drop table comes");
            }
        });
        let _done = SetOnDrop(&done);
        site.backup(&[]);
        site.backup(&[]);
        site.backup(&[])
    });
    site.cluster.switch_wal();
    let data = site.restore("restored", &[&backup]);
    let mut restored = site.recovering(&data, "");
    restored.start();
    assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "200000");
    restored.assert_sound();
    restored.stop();
    restored.assert_checksums();
}

#[test]
fn empty_segments_and_segments_of_a_gigabyte() {
    const GIGABYTE: u64 = 1 << 30;
    let site = Site::new(17);
    let base = site.cluster.data().join("base/5");
    let place = |name: &str, size: u64| {
        let path = base.join(name);
        let file = fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        if size > 8192 {
            file.write_all_at(b"the first", 100).unwrap();
            file.write_all_at(b"the last", size - 100).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        user::give(&path);
    };
    place("99990", 0);
    place("99991", GIGABYTE);
    place("99991.1", 0);
    place("99992", 8192 * 3);
    // Larger than the size at which parts are cut: it gets a part of its own.
    place("99993_unusual", GIGABYTE + (64 << 20) + 5);
    let backup = site.backup(&[]);
    let data = site.restore("restored", &[&backup]);
    let wanted = placed(expected(site.cluster.data()));
    assert_eq!(wanted.len(), 5);
    tree::assert_same("large and empty files", &placed(tree::digest(&data)), &wanted);
}
