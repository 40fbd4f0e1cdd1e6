//! Point-in-time recovery gives exactly what was committed by then.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::thread;
use std::time::Duration;

use common::{Site, random};

fn insert(site: &Site, from: u32, to: u32) {
    site.cluster.sql(&format!("insert into t select generate_series({from}, {to})"));
}

/// A site with ten rows in the backup, and twenty more after it.
fn site_with_rows(major: u32) -> Site {
    let site = Site::new(major);
    site.cluster.sql("create table t (i int primary key)");
    insert(&site, 1, 10);
    site.backup(&[]);
    insert(&site, 11, 30);
    site
}

#[test]
fn to_a_time() {
    let mut rng = random("to_a_time");
    let mut site = site_with_rows(17);
    // Commits come before and after the chosen time; the archive goes on far beyond.
    let mut committed = 30;
    for _ in 0..rng.u32(3..8) {
        let next = committed + rng.u32(1..500);
        insert(&site, committed + 1, next);
        committed = next;
    }
    thread::sleep(Duration::from_millis(50));
    let time = site.cluster.sql("select clock_timestamp()");
    thread::sleep(Duration::from_millis(50));
    for number in 0..4 {
        insert(&site, 100_000 + number, 100_000 + number);
        site.cluster.switch_wal();
    }
    site.cluster.sql("drop table t");
    site.cluster.switch_wal();
    site.destroy();

    let data = site.restore("restored", &["LATEST"]);
    let mut restored = site.recovering(&data, &format!("recovery_target_time = '{time}'"));
    restored.start();
    assert_eq!(restored.sql("select count(*), max(i) from t"), format!("{committed}|{committed}"));
    assert_eq!(restored.sql("select timeline_id from pg_control_checkpoint()"), "2");
    restored.assert_sound();
    restored.stop();
    restored.assert_checksums();
}

#[test]
fn to_a_named_point_and_to_an_address() {
    let mut site = site_with_rows(14);
    site.cluster.sql("select pg_create_restore_point('chosen')");
    insert(&site, 31, 40);
    let address = site.cluster.sql("select pg_current_wal_lsn()");
    insert(&site, 41, 50);
    site.cluster.switch_wal();
    site.destroy();

    let targets = [
        ("recovery_target_name = 'chosen'".to_owned(), "30"),
        (format!("recovery_target_lsn = '{address}'"), "40"),
        ("recovery_target = 'immediate'".to_owned(), "10"),
        ("recovery_target_timeline = 'latest'".to_owned(), "50"),
    ];
    for (number, (target, rows)) in targets.iter().enumerate() {
        let data = site.restore(&format!("restored{number}"), &["LATEST"]);
        let mut restored = site.recovering(&data, target);
        restored.start();
        assert_eq!(restored.sql("select max(i) from t"), *rows, "{target}");
    }
}

#[test]
fn along_a_second_timeline() {
    let mut site = site_with_rows(18);
    site.cluster.sql("select pg_create_restore_point('fork')");
    insert(&site, 31, 40);
    site.cluster.switch_wal();
    site.destroy();

    // The first restore forks, and archives its own timeline.
    let data = site.restore("first", &["LATEST"]);
    let mut first = site.recovering(&data, "recovery_target_name = 'fork'");
    first.configure("archive_mode = on");
    first.start();
    first.sql("insert into t select generate_series(1001, 1005)");
    first.switch_wal();
    first.stop();
    let keys = site.archive.keys("wal_005");
    assert!(keys.contains(&"wal_005/00000002.history.lz4".to_owned()), "{keys:?}");

    // The second follows it, by the history file in the archive.
    let data = site.restore("second", &["LATEST"]);
    let mut second = site.recovering(&data, "recovery_target_timeline = 'latest'");
    second.start();
    assert_eq!(second.sql("select count(*), max(i) from t"), "35|1005");
}

#[test]
fn a_missing_segment_ends_recovery_with_an_error() {
    let mut site = site_with_rows(17);
    for number in 31..36 {
        insert(&site, number, number);
        site.cluster.switch_wal();
    }
    site.cluster.sql("select pg_create_restore_point('end')");
    site.cluster.switch_wal();
    site.destroy();
    let keys = site.archive.keys("wal_005");
    let segments: Vec<_> = keys.iter().filter(|key| !key.contains("backup")).collect();
    std::fs::remove_file(site.archive.object(segments[segments.len() - 4])).unwrap();

    let data = site.restore("restored", &["LATEST"]);
    let mut restored = site.recovering(&data, "recovery_target_name = 'end'");
    let log = restored.start_in_vain();
    assert!(log.contains("recovery ended before configured recovery target was reached"), "{log}");
}

#[test]
fn a_damaged_segment_stops_a_strict_recovery() {
    let mut site = site_with_rows(17);
    for number in 31..34 {
        insert(&site, number, number);
        site.cluster.switch_wal();
    }
    site.destroy();
    let keys = site.archive.keys("wal_005");
    let segments: Vec<_> = keys.iter().filter(|key| !key.contains("backup")).collect();
    site.archive.rewrite(segments[segments.len() - 2], |bytes| bytes.truncate(bytes.len() / 2));

    // PostgreSQL takes 1 to 125 for the end of the archive, and would open for
    // writes here. With strict codes it stops instead.
    let data = site.restore("restored", &["LATEST"]);
    let mut restored = site.recovering(&data, "recovery_target_timeline = 'latest'");
    let fetch = site.tool.shell(&site.scratch, "--strict-exit-codes wal-fetch \"%f\" \"%p\"");
    restored.configure(&format!("restore_command = '{fetch}'"));
    let log = restored.start_in_vain();
    assert!(log.contains("could not restore file"), "{log}");
}
