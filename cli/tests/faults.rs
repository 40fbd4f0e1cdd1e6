//! Faults: killed at any moment, a full disk, missing rights, spoiled objects,
//! two at once. Each ends in a clear error or in a whole result.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Archive, Run, Scratch, Site, Tool, damage, disk::SmallDisk, random, segment, tree, user,
    wait_for,
};
use rustix::process::{Pid, Signal, kill_process};

const SEGMENT: usize = 1 << 20;
const NAME: &str = "000000010000000000000001";
const CODECS: [&str; 5] = ["lz4", "zstd", "brotli", "lzma", "none"];

struct Place {
    scratch: Scratch,
    archive: Archive,
    walport: Tool,
    file: PathBuf,
    bytes: Vec<u8>,
}

/// An archive for segments of 1 MiB, and one of them.
fn place(rng: &mut fastrand::Rng) -> Place {
    let scratch = Scratch::new();
    let archive = Archive::new(&scratch, "archive");
    let walport = archive
        .walport(&scratch)
        .with("WALG_PG_WAL_SIZE", "1")
        .with("WALG_DOWNLOAD_CONCURRENCY", "1");
    let bytes = segment(rng, SEGMENT);
    let file = scratch.file(&format!("pg_wal/{NAME}"), &bytes);
    Place { scratch, archive, walport, file, bytes }
}

impl Place {
    fn push(&self, tool: &Tool) -> Run {
        tool.run(&["wal-push", self.file.to_str().unwrap()])
    }

    fn target(&self) -> PathBuf {
        self.scratch.folder("fetched").join(format!("{:x}", fastrand::u64(..)))
    }

    fn fetch(&self, target: &Path) -> Run {
        self.walport.run(&["wal-fetch", NAME, target.to_str().unwrap()])
    }
}

/// How long a run takes from start to end.
fn duration_of(tool: &Tool, arguments: &[&str]) -> Duration {
    let start = Instant::now();
    tool.run(arguments).success();
    start.elapsed()
}

/// Starts the program and kills it after a random part of `longest`. Whether it
/// was killed before it ended.
fn killed(rng: &mut fastrand::Rng, tool: &Tool, arguments: &[&str], longest: Duration) -> bool {
    let mut child = tool.start(arguments);
    thread::sleep(longest.mul_f64(rng.f64()));
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

#[test]
fn a_killed_push_leaves_nothing_that_looks_whole() {
    let mut rng = random("a_killed_push_leaves_nothing_that_looks_whole");
    let place = place(&mut rng);
    let arguments = ["wal-push", place.file.to_str().unwrap()];
    let longest = duration_of(&place.walport, &arguments).mul_f64(1.2);
    let mut deaths = 0;
    for round in 0..200 {
        let codec = CODECS[round % CODECS.len()];
        let tool = place.walport.clone().with("WALG_COMPRESSION_METHOD", codec);
        for key in place.archive.keys("wal_005") {
            fs::remove_file(place.archive.object(&key)).unwrap();
        }
        deaths += usize::from(killed(&mut rng, &tool, &arguments, longest));
        let target = place.target();
        let run = place.fetch(&target);
        match run.code {
            Some(0) => assert!(fs::read(&target).unwrap() == place.bytes, "{codec}: other bytes"),
            Some(74) => assert!(!target.exists()),
            _ => panic!("{codec}: {run}"),
        }
    }
    assert!(deaths > 40, "only {deaths} of 200 runs were killed");
    // What is left over hinders nobody.
    place.push(&place.walport).success();
    let target = place.target();
    place.fetch(&target).success();
    assert!(fs::read(target).unwrap() == place.bytes);
}

#[test]
fn a_killed_fetch_leaves_nothing_or_the_whole_file() {
    let mut rng = random("a_killed_fetch_leaves_nothing_or_the_whole_file");
    let place = place(&mut rng);
    place.push(&place.walport).success();
    let target = place.target();
    let arguments = ["wal-fetch", NAME, target.to_str().unwrap()];
    let longest = duration_of(&place.walport, &arguments).mul_f64(1.2);
    let mut deaths = 0;
    for _ in 0..200 {
        fs::remove_file(&target).ok();
        deaths += usize::from(killed(&mut rng, &place.walport, &arguments, longest));
        if target.exists() {
            assert!(fs::read(&target).unwrap() == place.bytes, "a part of a file");
        }
    }
    assert!(deaths > 40, "only {deaths} of 200 runs were killed");
    fs::remove_file(&target).ok();
    place.fetch(&target).success();
}

#[test]
fn a_killed_prefetch_never_feeds_recovery_a_part() {
    let mut rng = random("a_killed_prefetch_never_feeds_recovery_a_part");
    let site = Site::with(17, |cluster, tool| {
        cluster.configure("wal_keep_size = 1GB");
        tool
    });
    for _ in 0..4 {
        site.cluster.switch_wal();
    }
    let folder = site.scratch.folder("fetched");
    let wal = site.cluster.data().join("pg_wal");
    let names = [1, 2, 3, 4].map(|number| format!("0000000100000000{number:08X}"));
    for _ in 0..20 {
        fs::remove_dir_all(&folder).unwrap();
        site.scratch.folder("fetched");
        // The first fetch starts the prefetch in the background; it is killed there.
        let first = folder.join(&names[0]);
        site.tool.run(&["wal-fetch", &names[0], first.to_str().unwrap()]).success();
        thread::sleep(Duration::from_millis(rng.u64(0..120)));
        kill_all_working_in(&folder);
        for name in &names[1..] {
            let target = folder.join(name);
            site.tool.run(&["wal-fetch", name, target.to_str().unwrap()]).success();
            assert_eq!(tree::sha256(&target), tree::sha256(&wal.join(name)), "{name}");
        }
        kill_all_working_in(&folder);
    }
}

/// Kills each process whose command line names this folder.
fn kill_all_working_in(folder: &Path) {
    let folder = folder.to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(folder) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

#[test]
fn a_killed_backup_does_not_exist() {
    let mut rng = random("a_killed_backup_does_not_exist");
    let site = Site::new(17);
    site.cluster.pgbench_init(1);
    let data = site.cluster.data().to_str().unwrap().to_owned();
    let arguments = ["backup-push", data.as_str()];
    let longest = duration_of(&site.tool, &arguments).mul_f64(1.1);
    let whole = site.archive.backups();
    let mut deaths = 0;
    for _ in 0..25 {
        let before = site.archive.backups();
        if killed(&mut rng, &site.tool, &arguments, longest) {
            deaths += 1;
            // Killed after the sentinel was written is a whole backup, too.
            for backup in site.archive.backups().iter().filter(|name| !before.contains(name)) {
                site.restore(&format!("r-{backup}"), &[backup]);
            }
        }
    }
    assert!(deaths > 5, "only {deaths} of 25 runs were killed");
    wait_for("the end of the sessions", Duration::from_secs(20), || {
        let sessions = "select count(*) from pg_stat_activity \
                        where backend_type = 'client backend' and pid <> pg_backend_pid()";
        site.cluster.sql(sessions) == "0"
    });
    let listed = site.tool.run(&["backup-list"]).success();
    assert_eq!(listed.text().lines().count(), site.archive.backups().len() + 1);
    let last = site.backup(&[]);
    assert!(!whole.contains(&last));
    site.restore("restored", &["LATEST"]);
}

#[test]
fn a_killed_restore_does_not_start() {
    let mut rng = random("a_killed_restore_does_not_start");
    let site = Site::new(17);
    site.cluster.pgbench_init(1);
    site.backup(&[]);
    let whole = site.scratch.join("whole");
    let longest =
        duration_of(&site.tool, &["backup-fetch", whole.to_str().unwrap(), "LATEST"]).mul_f64(1.1);
    let wanted = tree::digest(&whole);
    let mut deaths = 0;
    for _ in 0..25 {
        let target = site.scratch.join("target");
        fs::remove_dir_all(&target).ok();
        let arguments = ["backup-fetch", target.to_str().unwrap(), "LATEST"];
        deaths += usize::from(killed(&mut rng, &site.tool, &arguments, longest));
        // Without pg_control no server starts, so it must be the last to appear.
        if target.join("global/pg_control").exists() {
            tree::assert_same("a restore with pg_control", &tree::digest(&target), &wanted);
        }
    }
    assert!(deaths > 5, "only {deaths} of 25 runs were killed");
}

#[test]
fn a_signal_ends_a_backup_in_order() {
    let site = Site::with(17, |_, tool| tool.with("WALG_DISK_RATE_LIMIT", "4194304"));
    for signal in [Signal::TERM, Signal::INT] {
        let data = site.cluster.data().to_str().unwrap().to_owned();
        let mut command = site.tool.command(&["backup-push", &data]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the first part", Duration::from_secs(30), || {
            !site.archive.keys("basebackups_005").is_empty()
        });
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        wait_for("the end of the backup", Duration::from_secs(30), || {
            child.try_wait().unwrap().is_some()
        });
        assert!(!child.wait().unwrap().success());
        assert!(site.archive.backups().is_empty());
        wait_for("the end of the session", Duration::from_secs(20), || {
            site.cluster.sql("select count(*) from pg_stat_activity where application_name ~ 'wal'")
                == "0"
        });
        fs::remove_dir_all(site.archive.path().join("basebackups_005")).ok();
    }
}

#[test]
fn a_full_store_is_an_error_and_leaves_no_object() {
    let mut rng = random("a_full_store_is_an_error_and_leaves_no_object");
    let place = place(&mut rng);
    let disk = SmallDisk::new(&place.scratch, "full", 400 << 10);
    let tool = disk.limit(place.walport.clone().with("WALG_FILE_PREFIX", disk.path()));
    let plain = tool.clone().with("WALG_COMPRESSION_METHOD", "none");
    for _ in 0..3 {
        // Leftovers would fill the disk and make the next, small one fail.
        place.push(&plain).fails();
        let objects = Archive::at(disk.path().to_owned()).keys("wal_005");
        assert!(!objects.contains(&format!("wal_005/{NAME}")), "{objects:?}");
    }
    let small = place.scratch.file("pg_wal/00000002.history", "1\t0/3000000\tno recovery target\n");
    plain.run(&["wal-push", small.to_str().unwrap()]).success();
}

#[test]
fn a_full_destination_is_an_error_and_leaves_no_file() {
    let mut rng = random("a_full_destination_is_an_error_and_leaves_no_file");
    let place = place(&mut rng);
    place.push(&place.walport).success();
    let disk = SmallDisk::new(&place.scratch, "full", 400 << 10);
    let target = disk.path().join("RECOVERYXLOG");
    let tool = disk.limit(place.walport.clone());
    tool.run(&["wal-fetch", NAME, target.to_str().unwrap()]).fails();
    assert!(!target.exists(), "a part of a segment is left");
}

#[test]
fn a_backup_or_a_restore_without_room_fails() {
    let site = Site::new(17);
    site.cluster.sql("create table large as select generate_series(1, 200000) as i; checkpoint");
    site.backup(&[]);
    let disk = SmallDisk::new(&site.scratch, "full", 2 << 20);
    let target = disk.path().join("restored");
    let tool = disk.limit(site.tool.clone().with("WALG_DOWNLOAD_FILE_RETRIES", "1"));
    tool.run(&["backup-fetch", target.to_str().unwrap(), "LATEST"]).fails();
    assert!(!target.join("global/pg_control").exists());
    fs::remove_dir_all(&target).ok();

    let tool = tool.with("WALG_FILE_PREFIX", disk.path()).with("WALG_COMPRESSION_METHOD", "none");
    tool.run(&["backup-push", site.cluster.data().to_str().unwrap()]).fails();
    assert!(Archive::at(disk.path().to_owned()).backups().is_empty());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn missing_rights_are_named() {
    let mut rng = random("missing_rights_are_named");
    let place = place(&mut rng);
    set_mode(place.archive.path(), 0o555);
    place.push(&place.walport).fails().says("permission denied");
    set_mode(place.archive.path(), 0o755);
    assert!(place.archive.keys("").is_empty());

    set_mode(&place.file, 0o000);
    place.push(&place.walport).fails().says(NAME);
    set_mode(&place.file, 0o600);
    assert!(place.archive.keys("").is_empty());

    place.push(&place.walport).success();
    let target = place.target();
    set_mode(target.parent().unwrap(), 0o555);
    place.fetch(&target).fails().says("permission denied");
    set_mode(target.parent().unwrap(), 0o755);

    let object = place.archive.object(&format!("wal_005/{NAME}.lz4"));
    set_mode(&object, 0o000);
    let unreadable = place.fetch(&target).fails();
    assert_ne!(unreadable.code, Some(74), "what cannot be read is not absent: {unreadable}");
}

#[test]
fn an_unreadable_file_fails_the_backup() {
    let site = Site::new(17);
    let path = site.cluster.data().join("base/5/99999");
    fs::write(&path, "secret").unwrap();
    user::give(&path);
    set_mode(&path, 0o000);
    site.push(&[]).fails().says("99999");
    assert!(site.archive.backups().is_empty());
}

#[test]
fn a_spoiled_segment_is_never_taken_for_a_whole_one() {
    let mut rng = random("a_spoiled_segment_is_never_taken_for_a_whole_one");
    let place = place(&mut rng);
    for codec in CODECS {
        let tool = place.walport.clone().with("WALG_COMPRESSION_METHOD", codec);
        place.push(&tool).success();
        let key = place.archive.keys("wal_005").remove(0);
        let whole = fs::read(place.archive.object(&key)).unwrap();
        for _ in 0..12 {
            place.archive.rewrite(&key, |bytes| damage::truncate(&mut rng, bytes));
            let target = place.target();
            let run = place.fetch(&target);
            assert_ne!(run.code, Some(0), "{codec}: cut, and taken for whole");
            let run = run.fails();
            assert_ne!(run.code, Some(74), "a broken object is not a missing one: {run}");
            assert!(!target.exists(), "{codec}: a part of a segment is left");
            place.archive.rewrite(&key, |bytes| bytes.clone_from(&whole));
        }
        for _ in 0..12 {
            place.archive.rewrite(&key, |bytes| damage::flip(&mut rng, bytes));
            let target = place.target();
            let run = place.fetch(&target);
            assert!(run.code.is_some() && !run.stderr.contains("panicked"), "{codec}: {run}");
            if run.code == Some(0) {
                // Only lz4 and zstd carry a checksum; of the others no reader can
                // ask more than the right length.
                let fetched = fs::read(&target).unwrap();
                assert_eq!(fetched.len(), SEGMENT, "{codec}");
                let checked = matches!(codec, "lz4" | "zstd");
                assert!(!checked || fetched == place.bytes, "{codec}: other bytes");
            } else {
                assert!(!target.exists(), "{codec}: something is left\n{run}");
            }
            place.archive.rewrite(&key, |bytes| bytes.clone_from(&whole));
        }
        fs::remove_file(place.archive.object(&key)).unwrap();
    }
}

#[test]
fn a_spoiled_or_missing_part_fails_the_restore() {
    let mut rng = random("a_spoiled_or_missing_part_fails_the_restore");
    let site = Site::with(17, |_, tool| tool.with("WALG_TAR_SIZE_THRESHOLD", "8388608"));
    let tool = site.tool.clone().with("WALG_DOWNLOAD_FILE_RETRIES", "1");
    let target = site.scratch.join("target");
    let restore = |backup: &str| {
        fs::remove_dir_all(&target).ok();
        tool.run(&["backup-fetch", target.to_str().unwrap(), backup])
    };
    for codec in CODECS {
        let data = site.cluster.data().to_str().unwrap();
        let before = site.archive.backups();
        let push = tool.clone().with("WALG_COMPRESSION_METHOD", codec);
        push.run(&["backup-push", data]).success();
        let backup =
            site.archive.backups().into_iter().find(|name| !before.contains(name)).unwrap();
        let parts = site.archive.parts(&backup);
        assert!(parts.len() > 4, "{parts:?}");
        restore(&backup).success();
        let wanted = tree::digest(&target);

        for part in &parts {
            let hidden = site.archive.object("hidden");
            fs::rename(site.archive.object(part), &hidden).unwrap();
            restore(&backup).fails();
            assert!(!target.join("global/pg_control").exists(), "{codec}: without {part}");
            fs::rename(&hidden, site.archive.object(part)).unwrap();
        }
        for _ in 0..6 {
            let part = &parts[rng.usize(0..parts.len())];
            let whole = fs::read(site.archive.object(part)).unwrap();
            site.archive.rewrite(part, |bytes| damage::truncate(&mut rng, bytes));
            restore(&backup).fails();
            assert!(!target.join("global/pg_control").exists(), "{codec}: {part} cut");
            site.archive.rewrite(part, |bytes| bytes.clone_from(&whole));

            site.archive.rewrite(part, |bytes| damage::flip(&mut rng, bytes));
            let run = restore(&backup);
            assert!(run.code.is_some() && !run.stderr.contains("panicked"), "{codec}: {run}");
            if run.code == Some(0) && matches!(codec, "lz4" | "zstd") {
                tree::assert_same(&format!("{codec} {part}"), &tree::digest(&target), &wanted);
            }
            site.archive.rewrite(part, |bytes| bytes.clone_from(&whole));
        }
    }
}

#[test]
fn two_pushes_at_once_store_one_whole_segment() {
    let mut rng = random("two_pushes_at_once_store_one_whole_segment");
    let place = place(&mut rng);
    let other = segment(&mut rng, SEGMENT);
    let other_file = place.scratch.file(&format!("other/{NAME}"), &other);
    let careful = place.walport.clone().with("WALG_PREVENT_WAL_OVERWRITE", "true");
    let run = |file: &Path| careful.run(&["wal-push", file.to_str().unwrap()]).code;
    for round in 0..40 {
        let same = round % 2 == 0;
        let second = if same { &place.file } else { &other_file };
        let codes = thread::scope(|scope| {
            let handles = [&place.file, second].map(|file| scope.spawn(|| run(file)));
            handles.map(|handle| handle.join().unwrap())
        });
        let target = place.target();
        place.fetch(&target).success();
        let stored = fs::read(&target).unwrap();
        if same {
            assert_eq!(codes, [Some(0); 2]);
            assert!(stored == place.bytes);
        } else {
            // Whoever was told "stored" was told the truth.
            let winner = codes.iter().position(|code| *code == Some(0)).expect("one must win");
            assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
            assert!(stored == [&place.bytes, &other][winner].as_slice(), "{codes:?}");
        }
        assert_eq!(place.archive.keys("wal_005").len(), 1, "{:?}", place.archive.keys("wal_005"));
        fs::remove_file(place.archive.object(&place.archive.keys("wal_005")[0])).unwrap();
    }
}
