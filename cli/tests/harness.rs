//! The harness itself: a check that accepts everything would prove nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::panic::catch_unwind;

use common::postgres::MAJORS;
use common::{Cluster, Scratch, pages, tree};

#[test]
fn every_major_is_installed_and_runs() {
    for major in MAJORS {
        let scratch = Scratch::new();
        let mut cluster = Cluster::new(major, &scratch, "main");
        cluster.start();
        let version: u32 = cluster.sql("show server_version_num").parse().unwrap();
        assert_eq!(version / 10_000, major);
        cluster.sql("create table t as select generate_series(1, 1000) as i; checkpoint");
        cluster.assert_sound();
        cluster.stop();
        cluster.assert_checksums();
    }
}

#[test]
fn a_turned_bit_in_a_page_is_found() {
    let scratch = Scratch::new();
    let mut cluster = Cluster::new(17, &scratch, "main");
    cluster.start();
    cluster.sql("create table t as select generate_series(1, 1000) as i; checkpoint");
    let file = cluster.data().join(cluster.sql("select pg_relation_filepath('t')"));
    cluster.stop();
    cluster.assert_checksums();

    let mut bytes = fs::read(&file).unwrap();
    bytes[8192 + 5000] ^= 4;
    fs::write(&file, bytes).unwrap();
    let data = cluster.data().to_owned();
    assert!(catch_unwind(|| pages::verify(&data)).is_err());
}

#[test]
fn digests_tell_content_mode_and_links_apart() {
    let scratch = Scratch::new();
    let file = scratch.file("tree/a/file", "x");
    std::os::unix::fs::symlink("../elsewhere", scratch.join("tree/link")).unwrap();
    let before = tree::digest(&scratch.join("tree"));
    assert_eq!(before.len(), 3);
    assert!(before.contains("l link ../elsewhere"));

    fs::write(&file, "y").unwrap();
    let after = tree::digest(&scratch.join("tree"));
    assert_eq!(before.difference(&after).count(), 1);
}
