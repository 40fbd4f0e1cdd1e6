//! Listings: order, levels, pages, odd names, links.

use std::os::unix::ffi::OsStrExt;

use walport_engine::memory::Budget;
use walport_engine::storage::{Entry, InMemory, Key, List, Put, Storage, StorageExt};

use super::{archive, key};
use crate::file::FileStore;

async fn names(store: &dyn Storage, prefix: &str, how: List) -> Vec<String> {
    let entries = store.list_all(&key(prefix), how).await.unwrap();
    entries.iter().map(|entry| entry.key().to_string()).collect()
}

/// A random tree in which no file's name is also a folder's.
fn tree(random: &mut fastrand::Rng) -> std::collections::BTreeSet<String> {
    const PARTS: &[&str] = &["a", "a-b", "a0", "a.b", "b", "é", "0", "~", "a b", "+"];
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..random.usize(0..60) {
        let depth = random.usize(0..4);
        let mut name: Vec<String> =
            (0..depth).map(|_| (*random.choice(PARTS).unwrap()).to_owned()).collect();
        name.push(format!("{}_", random.choice(PARTS).unwrap()));
        found.insert(name.join("/"));
    }
    found
}

#[tokio::test]
async fn listings_equal_those_of_a_model() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..25 {
        let (archive, model) = (archive().await, InMemory::new());
        let tree = tree(&mut random);
        for name in &tree {
            let path = archive.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
            model.insert(name.clone(), name.clone());
        }
        std::fs::create_dir_all(archive.path("empty/below")).unwrap();
        std::fs::write(archive.path("empty/x.tmp.20260428T113012Z-9f2c6a4b9f2c6a4b"), "").unwrap();
        assert_eq!(
            names(&archive.store, "", List::recursive()).await,
            tree.iter().cloned().collect::<Vec<_>>()
        );
        let all: Vec<&String> = tree.iter().collect();
        for _ in 0..20 {
            let prefix = random.choice(&all).map_or(Key::root(), |name| key(name).parent());
            let mut how = List { recursive: random.bool(), after: None };
            if let Some(after) = random.choice(&all).filter(|_| random.bool()) {
                let after = if random.bool() {
                    key(after)
                } else {
                    Key::parse(format!("{after}!")).unwrap()
                };
                how.after = Some(if random.bool() { after } else { after.parent() });
            }
            let found = names(&archive.store, prefix.as_str(), how.clone()).await;
            assert_eq!(
                found,
                names(&model, prefix.as_str(), how.clone()).await,
                "{prefix} {how:?} of {all:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_folder_larger_than_the_memory_is_listed_in_pages() {
    let archive = archive().await;
    let count = 6000;
    std::fs::create_dir(archive.path("wal_005")).unwrap();
    for number in 0..count {
        std::fs::write(archive.path(&format!("wal_005/{number:024X}.lz4")), "1").unwrap();
    }
    // No budget at all: pages of 64 KiB, fewer than the names take.
    let tight = FileStore::open(archive.root.path().to_owned(), Budget::new(0)).await.unwrap();
    let found = names(&tight, "", List::recursive()).await;
    let expected: Vec<_> = (0..count).map(|number| format!("wal_005/{number:024X}.lz4")).collect();
    assert!(found == expected, "{} names", found.len());
}

#[tokio::test]
async fn entries_say_what_head_says() {
    let archive = archive().await;
    for (name, data) in [("x/one", "1"), ("x/three", "333")] {
        archive.store.put_bytes(&key(name), data, Put::default()).await.unwrap();
    }
    for entry in archive.store.list_all(&key("x/"), List::default()).await.unwrap() {
        let Entry::Object(key, meta) = entry else { panic!("{entry:?} is no object") };
        assert_eq!(meta, archive.store.head(&key).await.unwrap());
    }
}

#[tokio::test]
async fn odd_names_and_links_do_no_harm() {
    let archive = archive().await;
    archive.store.put_bytes(&key("a/x"), "1", Put::default()).await.unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("far"), "22").unwrap();
    let link = |to: &std::path::Path, name: &str| {
        std::os::unix::fs::symlink(to, archive.path(name)).unwrap();
    };
    link(outside.path(), "linked");
    link(archive.root.path(), "a/loop");
    link(std::path::Path::new("/no/such/file"), "broken");
    link(&outside.path().join("far"), "file");
    std::fs::write(archive.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    std::fs::write(archive.path("tab\there"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        archive.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let found = names(&archive.store, "", List::recursive()).await;
    assert_eq!(found, ["a/x", "file", "linked/far", "tab\there"]);
    assert_eq!(names(&archive.store, "a/", List::default()).await[0], "a/loop/");
    assert_eq!(archive.store.get_bytes(&key("linked/far"), 9).await.unwrap(), b"22");
    assert_eq!(archive.store.get_bytes(&Key::foreign("tab\there"), 9).await.unwrap(), b"");
    let error = archive.store.get_bytes(&key("pipe"), 9).await.unwrap_err();
    assert_eq!(error.kind(), walport_engine::Kind::NotFound);
}

#[tokio::test]
async fn a_listing_may_be_left_early() {
    use futures_util::StreamExt;
    let archive = archive().await;
    for number in 0..500 {
        std::fs::write(archive.path(&format!("{number:03}")), "").unwrap();
    }
    let mut listing = archive.store.list(&Key::root(), List::recursive());
    assert_eq!(listing.next().await.unwrap().unwrap().key().as_str(), "000");
    drop(listing);
    assert_eq!(names(&archive.store, "", List::recursive()).await.len(), 500);
}
