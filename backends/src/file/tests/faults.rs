//! Races, kills, full and read-only disks. Some tests start this test program
//! again as a child, with one of the `worker` tests and a directory to work in.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use walport_engine::memory::CHUNK;
use walport_engine::storage::{Body, Key, Kind, List, Put, Storage, StorageExt};

use super::{archive, key, open};

const DIRECTORY: &str = "WALPORT_TEST_DIRECTORY";
const KEYS: usize = 20;

/// The directory a parent test gave to this worker, or one of its own.
fn workplace() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return (directory.into(), None);
    }
    let own = tempfile::tempdir().unwrap();
    (own.path().to_owned(), Some(own))
}

fn command(worker: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!("{:?} --exact file::tests::faults::{worker} --nocapture", program.display().to_string())
}

fn child(worker: &str, directory: &Path, before: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{before} exec {}", command(worker))])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Four threads create the same keys, each with its own mark in them.
#[test]
fn race_worker() {
    let (directory, own) = workplace();
    let wins = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (directory, wins) = (&directory, &wins);
            scope.spawn(move || {
                futures_executor::block_on(async {
                    let store = open(directory).await;
                    let mark = format!("{}-{thread}", std::process::id());
                    for number in 0..KEYS {
                        let name = key(&format!("wal_005/{number}"));
                        match store.put_bytes(&name, mark.clone(), Put::create()).await {
                            Ok(_) => {
                                wins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                println!("won {number} {mark} ");
                            }
                            Err(error) => assert_eq!(error.kind(), Kind::AlreadyExists, "{error}"),
                        }
                    }
                });
            });
        }
    });
    if own.is_some() {
        assert_eq!(wins.into_inner(), KEYS);
    }
}

#[tokio::test]
async fn exactly_one_of_many_processes_creates() {
    let archive = archive().await;
    let children: Vec<_> = (0..4).map(|_| child("race_worker", archive.root.path(), "")).collect();
    let said: String = children.into_iter().map(output).collect();
    for number in 0..KEYS {
        let line = format!("won {number} ");
        let winners: Vec<_> = said.match_indices(&line).collect();
        assert_eq!(winners.len(), 1, "{number}: {said}");
        let mark = said[winners[0].0 + line.len()..].split_whitespace().next().unwrap();
        let held = archive.store.get_bytes(&key(&format!("wal_005/{number}")), 99).await.unwrap();
        assert_eq!(held, mark.as_bytes());
    }
    assert_eq!(archive.tree().len(), KEYS + 1, "{:?}", archive.tree());
}

/// Replaces and creates objects, each of one repeated byte, until it is killed;
/// alone, for a moment.
#[test]
fn endless_worker() {
    let (directory, own) = workplace();
    let until = Instant::now()
        + if own.is_some() { Duration::from_millis(50) } else { Duration::from_secs(60) };
    futures_executor::block_on(async {
        let store = open(&directory).await;
        let mut number = 0_usize;
        while Instant::now() < until {
            let data = Bytes::from(vec![number as u8; 1 << 20]);
            let name = key(&format!("d{}/{}", number % 3, number % 7));
            store.put_bytes(&name, data, Put::default()).await.unwrap();
            number += 1;
        }
        assert!(number > 0);
        check_whole(&directory).await;
    });
}

async fn check_whole(directory: &Path) -> usize {
    let store = open(directory).await;
    let entries = store.list_all(&Key::root(), List::recursive()).await.unwrap();
    for entry in &entries {
        let data = store.get_bytes(entry.key(), 1 << 20).await.unwrap();
        assert_eq!(data.len(), 1 << 20, "{}", entry.key());
        assert!(data.iter().all(|byte| *byte == data[0]), "{}", entry.key());
    }
    entries.len()
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_objects_only() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let archive = archive().await;
    let mut seen = 0;
    for _ in 0..25 {
        let mut child = child("endless_worker", archive.root.path(), "");
        std::thread::sleep(Duration::from_millis(random.u64(5..120)));
        child.kill().unwrap();
        child.wait().unwrap();
        seen = check_whole(archive.root.path()).await;
    }
    assert!(seen > 0, "no object was ever written");
}

#[tokio::test]
async fn a_dropped_put_leaves_nothing() {
    let archive = archive().await;
    let chunks = stream::iter([Ok(Bytes::from(vec![1; CHUNK])), Ok(Bytes::from(vec![2; CHUNK]))]);
    let body = Body::stream(None, chunks.chain(stream::pending()).boxed());
    let name = key("d/x");
    let put = archive.store.put(&name, body, Put::default());
    assert!(tokio::time::timeout(Duration::from_millis(50), put).await.is_err());
    assert!(archive.store.list_all(&Key::root(), List::recursive()).await.unwrap().is_empty());
    let give_up = Instant::now() + Duration::from_secs(30);
    while !archive.tree().is_empty() {
        assert!(Instant::now() < give_up, "{:?}", archive.tree());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes more than fits and expects to be told; without a parent, in a
/// directory with enough room, expects success.
#[test]
fn full_worker() {
    let (directory, own) = workplace();
    futures_executor::block_on(async {
        let store = open(&directory).await;
        store.put_bytes(&key("small"), "1", Put::default()).await.unwrap();
        let large = vec![7; 4 << 20];
        let put = store.put_bytes(&key("wal_005/large"), large, Put::default()).await;
        if own.is_some() {
            assert_eq!(put.unwrap().size, 4 << 20);
            return;
        }
        let error = put.unwrap_err();
        assert_eq!(error.kind(), Kind::Full, "{error}");
        assert!(error.hint().is_some());
        let names = store.list_all(&Key::root(), List::recursive()).await.unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(!directory.join("wal_005").exists());
        println!("told that it is full");
    });
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let archive = archive().await;
    // The limit of file sizes stands for a full disk wherever the tests run...
    let said = output(child("full_worker", archive.root.path(), "trap '' XFSZ; ulimit -f 1024;"));
    assert!(said.contains("told that it is full"), "{said}");
    // ...and as root there is a real one, two megabytes large.
    if rustix::process::geteuid().is_root() {
        let disk = tempfile::tempdir().unwrap();
        let said = in_own_mounts(disk.path(), "size=2m", "full_worker");
        assert!(said.contains("told that it is full"), "{said}");
    }
}

/// Runs a worker where `directory` is a file system of its own.
fn in_own_mounts(directory: &Path, options: &str, worker: &str) -> String {
    let script =
        format!("mount -t tmpfs -o {options} tmpfs \"${DIRECTORY}\" && exec {}", command(worker));
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    output(child)
}

/// Expects to be refused in a read-only directory, or, alone, not to be.
#[test]
fn refused_worker() {
    let (directory, own) = workplace();
    futures_executor::block_on(async {
        let store = open(&directory).await;
        let put = store.put_bytes(&key("x"), "1", Put::default()).await;
        if own.is_some() {
            assert_eq!(put.unwrap().size, 1);
            return;
        }
        let error = put.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.hint().is_some());
        println!("told that it is refused");
    });
}

#[tokio::test]
async fn a_read_only_disk_is_told() {
    let disk = tempfile::tempdir().unwrap();
    let said = if rustix::process::geteuid().is_root() {
        in_own_mounts(disk.path(), "ro", "refused_worker")
    } else {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(disk.path(), mode).unwrap();
        output(child("refused_worker", disk.path(), ""))
    };
    assert!(said.contains("told that it is refused"), "{said}");
}
