//! `wal-push` and `wal-fetch`: what is stored, what comes back, and what the
//! exit code says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::cluster::checked;
use common::{Archive, Cluster, Scratch, Tool, bytes_like_a_table, random, tree, wait_for};

const SEGMENT: usize = 16 << 20;

/// The codecs that write, with the extension of their objects.
const CODECS: [(&str, &str); 5] =
    [("lz4", ".lz4"), ("zstd", ".zst"), ("brotli", ".br"), ("lzma", ".lzma"), ("none", "")];

struct Place {
    scratch: Scratch,
    archive: Archive,
    walport: Tool,
}

fn place() -> Place {
    let scratch = Scratch::new();
    let archive = Archive::new(&scratch, "archive");
    let walport = archive.walport(&scratch);
    Place { scratch, archive, walport }
}

impl Place {
    fn fetched(&self, tool: &Tool, name: &str) -> PathBuf {
        let target = self.scratch.folder("fetched").join(format!("{:x}", fastrand::u64(..)));
        tool.run(&["wal-fetch", name, target.to_str().unwrap()]).success();
        target
    }
}

fn push(tool: &Tool, file: &Path) -> common::Run {
    tool.run(&["wal-push", file.to_str().unwrap()])
}

#[test]
fn every_codec_brings_back_the_same_bytes() {
    let mut rng = random("every_codec_brings_back_the_same_bytes");
    for (codec, extension) in CODECS {
        let place = place();
        let walport = place.walport.clone().with("WALG_COMPRESSION_METHOD", codec);
        let files = [
            ("000000010000000000000001", SEGMENT),
            ("000000010000000000000002.partial", SEGMENT),
            ("000000010000000000000001.00000028.backup", 330),
            ("00000002.history", 42),
        ];
        for (name, size) in files {
            let bytes = bytes_like_a_table(&mut rng, size);
            let file = place.scratch.file(&format!("pg_wal/{name}"), &bytes);
            let run = push(&walport, &file).success();
            assert!(run.stdout.is_empty(), "{run}");
            let object = format!("wal_005/{name}{extension}");
            assert!(place.archive.keys("wal_005").contains(&object), "{object}");

            // Reading does not depend on the codec that is set to write.
            let target = place.fetched(&place.walport, name);
            assert_eq!(fs::read(&target).unwrap(), bytes, "{codec} {name}");
        }
        assert_eq!(place.archive.keys("").len(), files.len(), "{:?}", place.archive.keys(""));
    }
}

#[test]
fn standard_decoders_read_what_is_written() {
    let mut rng = random("standard_decoders_read_what_is_written");
    let place = place();
    let bytes = bytes_like_a_table(&mut rng, SEGMENT);
    let file = place.scratch.file("pg_wal/00000001000000000000000A", &bytes);
    let decoders: [(&str, &[&str]); 4] = [
        ("lz4", &["lz4", "-dc"]),
        ("zstd", &["zstd", "-dc"]),
        ("brotli", &["brotli", "-dc"]),
        ("lzma", &["xz", "--format=lzma", "-dc"]),
    ];
    for (codec, decoder) in decoders {
        push(&place.walport.clone().with("WALG_COMPRESSION_METHOD", codec), &file).success();
        let extension = CODECS.iter().find(|(name, _)| *name == codec).unwrap().1;
        let object = place.archive.object(&format!("wal_005/00000001000000000000000A{extension}"));
        let output = Command::new(decoder[0]).args(&decoder[1..]).arg(&object).output().unwrap();
        assert!(output.status.success(), "{codec}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == bytes, "{codec}: other bytes");
        fs::remove_file(object).unwrap();
    }
}

#[test]
fn gzip_is_read() {
    let mut rng = random("gzip_is_read");
    let place = place();
    let bytes = bytes_like_a_table(&mut rng, SEGMENT);
    let plain = place.scratch.file("archive/wal_005/000000010000000000000001", &bytes);
    checked(Command::new("gzip").arg(&plain));
    common::user::give(place.archive.path());
    let target = place.fetched(&place.walport, "000000010000000000000001");
    assert!(fs::read(target).unwrap() == bytes);
}

#[test]
fn a_missing_file_is_74_and_leaves_nothing() {
    let place = place();
    let folder = place.scratch.folder("pg_wal");
    let target = folder.join("RECOVERYXLOG");
    let name = "000000010000000000000001";
    place.walport.run(&["wal-fetch", name, target.to_str().unwrap()]).exits(74);
    place.walport.run(&["wal-fetch", "00000002.history", target.to_str().unwrap()]).exits(74);
    assert!(!target.exists());
    // Recovery asks for files that are not there all the time: no rubbish.
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.ends_with(".wal-g")), "{left:?}");
}

#[test]
fn strict_exit_codes_tell_recovery_the_truth() {
    let mut rng = random("strict_exit_codes_tell_recovery_the_truth");
    let place = place();
    let target = place.scratch.folder("pg_wal").join("RECOVERYXLOG");
    let target = target.to_str().unwrap();
    let name = "000000010000000000000001";
    let strict = |tool: &Tool| tool.run(&["--strict-exit-codes", "wal-fetch", name, target]);

    // PostgreSQL takes 1 to 125 for "no such file" and ends recovery there.
    strict(&place.walport).exits(1);

    let file = place.scratch.file(&format!("pg_wal/{name}"), bytes_like_a_table(&mut rng, SEGMENT));
    push(&place.walport, &file).success();
    place.archive.rewrite("wal_005/000000010000000000000001.lz4", |bytes| bytes.truncate(5000));
    let broken = strict(&place.walport).fails();
    assert!(broken.code.unwrap() >= 128, "{broken}");

    let misconfigured = strict(&place.walport.clone().with("WALPORT_MEMORY_LIMIT", "much")).fails();
    assert!(misconfigured.code.unwrap() >= 128, "{misconfigured}");
}

#[test]
fn an_existing_destination_stays_as_it_is() {
    let mut rng = random("an_existing_destination_stays_as_it_is");
    let place = place();
    let name = "000000010000000000000001";
    let file = place.scratch.file(&format!("pg_wal/{name}"), bytes_like_a_table(&mut rng, SEGMENT));
    push(&place.walport, &file).success();
    let target = place.scratch.file("fetched/taken", "mine");
    place.walport.run(&["wal-fetch", name, target.to_str().unwrap()]).fails();
    assert_eq!(fs::read(target).unwrap(), b"mine");
}

#[test]
fn a_missing_local_file_is_an_error() {
    let place = place();
    let file = place.scratch.folder("pg_wal").join("000000010000000000000001");
    push(&place.walport, &file).exits(1).says("000000010000000000000001");
    assert!(place.archive.keys("").is_empty());
}

#[test]
fn history_is_never_overwritten_by_something_else() {
    let place = place();
    let first = place.scratch.file("a/00000002.history", "1\t0/3000000\tno recovery target\n");
    let other = place.scratch.file("b/00000002.history", "1\t0/4000000\tno recovery target\n");
    push(&place.walport, &first).success();
    push(&place.walport, &first).success();
    push(&place.walport, &other).fails().says("00000002.history");
    // Another codec gives the object another name, but it is the same file.
    let zstd = place.walport.clone().with("WALG_COMPRESSION_METHOD", "zstd");
    push(&zstd, &first).success();
    push(&zstd, &other).fails().says("00000002.history");
    assert_eq!(place.archive.keys(""), ["wal_005/00000002.history.lz4"]);
    let target = place.fetched(&place.walport, "00000002.history");
    assert_eq!(fs::read(target).unwrap(), fs::read(first).unwrap());
}

#[test]
fn segments_are_protected_when_asked() {
    let mut rng = random("segments_are_protected_when_asked");
    let place = place();
    let name = "000000010000000000000001";
    let first = place.scratch.file(&format!("a/{name}"), bytes_like_a_table(&mut rng, SEGMENT));
    let other = place.scratch.file(&format!("b/{name}"), bytes_like_a_table(&mut rng, SEGMENT));
    let careful = place.walport.clone().with("WALG_PREVENT_WAL_OVERWRITE", "true");
    push(&careful, &first).success();
    push(&careful, &first).success();
    push(&careful, &other).fails().says(name);
    let target = place.fetched(&careful, name);
    assert!(fs::read(target).unwrap() == fs::read(&first).unwrap());

    // Not asked, as in WAL-G: the newer file wins.
    push(&place.walport, &other).success();
    let target = place.fetched(&careful, name);
    assert!(fs::read(target).unwrap() == fs::read(&other).unwrap());
}

#[test]
fn prefixes_are_found_as_in_wal_g() {
    let scratch = Scratch::new();
    let archive = Archive::new(&scratch, "archive");
    let root = archive.path().to_str().unwrap().to_owned();
    let file = scratch.file("pg_wal/00000002.history", "1\t0/3000000\tno recovery target\n");
    let plain = Tool::walport(&scratch);
    for folder in ["archive/1", "archive/2", "archive/3"] {
        scratch.folder(folder);
    }

    let tools = [
        plain.clone().with("WALG_FILE_PREFIX", format!("file://localhost{root}/1")),
        plain.clone().with("WALE_FILE_PREFIX", format!("{root}/2")),
        plain
            .clone()
            .with("WALG_FILE_PREFIX", format!("{root}/3"))
            .with("WALG_STORAGE_PREFIX", "inner"),
    ];
    for tool in &tools {
        push(tool, &file).success();
    }
    let keys =
        ["1/", "2/", "3/inner/"].map(|folder| format!("{folder}wal_005/00000002.history.lz4"));
    assert_eq!(archive.keys(""), keys);

    push(&plain, &file).fails();
}

#[test]
fn wal_checks_compare_the_file_with_its_name() {
    let scratch = Scratch::new();
    let archive = Archive::new(&scratch, "archive");
    let walport = archive.walport(&scratch).with("WALPORT_CHECK_WAL", "true");
    let mut cluster = Cluster::new(17, &scratch, "main");
    cluster.configure("wal_keep_size = 1GB");
    cluster.start();
    cluster.sql("create table t as select 1");
    cluster.sql("select pg_switch_wal()");
    cluster.stop();
    let wal = cluster.data().join("pg_wal");
    let segment = wal.join("000000010000000000000001");
    push(&walport, &segment).success();

    let bytes = fs::read(&segment).unwrap();
    let elsewhere = scratch.file("wrong/000000010000000000000077", &bytes);
    push(&walport, &elsewhere).fails().says("000000010000000000000077");
    // The first page of a timeline may belong to an older one, never to a newer.
    let mut newer = bytes;
    newer[4..8].copy_from_slice(&2_u32.to_le_bytes());
    let newer = scratch.file("wrong/000000010000000000000001", &newer);
    push(&walport, &newer).fails().says("timeline");
    assert_eq!(archive.keys("").len(), 1);
}

#[test]
fn a_server_archives_and_the_next_files_are_prefetched() {
    let scratch = Scratch::new();
    let archive = Archive::new(&scratch, "archive");
    let walport = archive.walport(&scratch);
    let mut cluster = Cluster::new(17, &scratch, "main");
    cluster.archive_with(&walport, &scratch);
    cluster.configure("max_wal_size = 1GB\nwal_keep_size = 1GB");
    cluster.start();
    for _ in 0..6 {
        cluster.sql("create table t as select generate_series(1, 10000) as i");
        cluster.switch_wal();
        cluster.sql("drop table t");
    }
    assert_eq!(cluster.sql("select failed_count from pg_stat_archiver"), "0", "{}", cluster.log());
    cluster.stop();

    let wal = cluster.data().join("pg_wal");
    let target = scratch.folder("pg_wal");
    let name = |number: u32| format!("0000000100000000{number:08X}");
    let compare = |number: u32| {
        let found = tree::sha256(&target.join(name(number)));
        assert_eq!(found, tree::sha256(&wal.join(name(number))), "{}", name(number));
    };
    let fetch = |number: u32| {
        let path = target.join(name(number));
        walport.run(&["wal-fetch", &name(number), path.to_str().unwrap()])
    };
    fetch(1).success();
    compare(1);
    // The next ones come without being asked for, whole and under their names.
    let ready = target.join(".wal-g/prefetch").join(name(2));
    wait_for("prefetch", Duration::from_secs(30), || ready.exists());
    assert_eq!(tree::sha256(&ready), tree::sha256(&wal.join(name(2))));
    for number in 2..=5 {
        fetch(number).success();
        compare(number);
    }
    assert!(!ready.exists(), "a prefetched file is used up");
}

#[test]
fn ready_segments_travel_along() {
    let mut rng = random("ready_segments_travel_along");
    let place = place();
    let data = place.scratch.folder("data");
    let walport = place.walport.clone().with("PGDATA", &data);
    let names: Vec<_> = (1..=4).map(|number| format!("0000000100000000{number:08X}")).collect();
    let mut files = Vec::new();
    for name in &names {
        files.push(
            place
                .scratch
                .file(&format!("data/pg_wal/{name}"), bytes_like_a_table(&mut rng, SEGMENT)),
        );
        place.scratch.file(&format!("data/pg_wal/archive_status/{name}.ready"), "");
    }
    for file in &files {
        push(&walport, file).success();
    }
    for (name, file) in names.iter().zip(&files) {
        let target = place.fetched(&walport, name);
        assert_eq!(tree::sha256(&target), tree::sha256(file), "{name}");
    }
    assert_eq!(place.archive.keys("").len(), 4);
}

#[test]
fn settings_come_from_flags_environment_and_file_in_this_order() {
    let place = place();
    let file = place.scratch.file("pg_wal/000000010000000000000002.00000028.backup", "START WAL");
    let config = place.scratch.file("walg.json", r#"{"WALG_COMPRESSION_METHOD": "zstd"}"#);
    let config = config.to_str().unwrap();
    let file = file.to_str().unwrap();

    place.walport.run(&["--config", config, "wal-push", file]).success();
    let brotli = place.walport.clone().with("WALG_COMPRESSION_METHOD", "brotli");
    brotli.run(&["--config", config, "wal-push", file]).success();
    brotli.run(&["wal-push", "--config", config, "--walg-compression-method=none", file]).success();
    let names = ["", ".br", ".zst"]
        .map(|extension| format!("wal_005/000000010000000000000002.00000028.backup{extension}"));
    assert_eq!(place.archive.keys(""), names);
}

#[test]
fn nothing_but_data_on_stdout() {
    let place = place();
    for arguments in [&["backup-list"][..], &["wal-push"], &["no-such-command"]] {
        let run = place.walport.run(arguments);
        assert!(run.stdout.is_empty(), "{run}");
    }
    let run = place.walport.run(&["backup-list", "--json"]).success();
    assert_eq!(run.text(), "[]\n");
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let place = place();
    let mut child = place
        .walport
        .command(&["--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
