//! Writing, reading, deleting and copying.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use walport_engine::memory::{Budget, CHUNK};
use walport_engine::settings::{Settings, Table};
use walport_engine::storage::{Body, Error, Get, Key, Kind, List, Open, Put, Storage, StorageExt};

use super::{archive, key, open};
use crate::file::FileStore;

fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn objects_of_every_size_come_back() {
    let archive = archive().await;
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17, (9 << 20) + 3] {
        let name = key(&format!("basebackups_005/x/{size}"));
        let data = pattern(size);
        let chunks: Vec<_> = data.chunks(100_000).map(|part| Ok(data.slice_ref(part))).collect();
        let body = Body::stream(None, stream::iter(chunks).boxed());
        let stored = archive.store.put(&name, body, Put::default()).await.unwrap();
        assert_eq!(stored.size, size as u64);
        let meta = archive.store.head(&name).await.unwrap();
        assert_eq!((meta.size, meta.version.clone()), (size as u64, stored.version));
        let object = archive.store.get(&name, Get::default()).await.unwrap();
        assert_eq!(object.meta, meta);
        let back: Vec<Bytes> = object.body.try_collect().await.unwrap();
        assert!(back.concat() == data, "{size} bytes");
    }
    assert!(!archive.tree().iter().any(|name| name.contains(".tmp.")), "{:?}", archive.tree());
}

#[tokio::test]
async fn ranges_are_cut_at_the_end_and_refused_past_it() {
    let archive = archive().await;
    let name = key("x");
    let data = pattern(3 * CHUNK);
    archive.store.put_bytes(&name, data.clone(), Put::default()).await.unwrap();
    let size = data.len() as u64;
    for range in [
        0..0,
        0..1,
        5..9,
        CHUNK as u64 - 1..CHUNK as u64 + 1,
        100..size,
        size - 1..size + 9,
        size..size,
    ] {
        let object = archive.store.get(&name, Get::range(range.clone())).await.unwrap();
        let end = range.end.min(size);
        assert_eq!(object.range, range.start..end);
        let back: Vec<Bytes> = object.body.try_collect().await.unwrap();
        assert!(back.concat() == data[range.start as usize..end as usize], "{range:?}");
    }
    let error = archive.store.get(&name, Get::range(size + 1..size + 2)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_reader_that_keeps_every_chunk_gets_them_all() {
    let archive = archive().await;
    let data = pattern(20 * CHUNK);
    archive.store.put_bytes(&key("x"), data.clone(), Put::default()).await.unwrap();
    let tight =
        FileStore::open(archive.root.path().to_owned(), Budget::new(CHUNK as u64)).await.unwrap();
    let object = tight.get(&key("x"), Get::default()).await.unwrap();
    let refused = tight.get(&key("x"), Get::default()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Memory);
    let kept: Vec<Bytes> = object.body.try_collect().await.unwrap();
    assert!(kept.concat() == data);
}

#[tokio::test]
async fn a_pinned_read_notices_another_object() {
    let archive = archive().await;
    let name = key("x");
    let first = archive.store.put_bytes(&name, "one", Put::default()).await.unwrap();
    let pinned = Get { range: None, version: first.version };
    assert!(archive.store.get(&name, pinned.clone()).await.is_ok());
    archive.store.put_bytes(&name, "two", Put::default()).await.unwrap();
    assert_eq!(archive.store.get(&name, pinned).await.unwrap_err().kind(), Kind::Changed);
}

#[tokio::test]
async fn an_open_object_stays_whole_while_it_is_replaced_or_removed() {
    let archive = archive().await;
    let name = key("d/x");
    let old = pattern(8 * CHUNK);
    archive.store.put_bytes(&name, old.clone(), Put::default()).await.unwrap();
    let replaced = archive.store.get(&name, Get::default()).await.unwrap();
    archive.store.put_bytes(&name, "new", Put::default()).await.unwrap();
    let removed = archive.store.get(&name, Get::default()).await.unwrap();
    archive.store.delete_one(&name).await.unwrap();
    let back: Vec<Bytes> = replaced.body.try_collect().await.unwrap();
    assert!(back.concat() == old);
    let back: Vec<Bytes> = removed.body.try_collect().await.unwrap();
    assert_eq!(back.concat(), b"new");
}

#[tokio::test]
async fn a_file_that_is_cut_or_written_over_is_an_error() {
    let archive = archive().await;
    let size = 8 * CHUNK;
    for (cut, kind) in [(true, Kind::Corrupt), (false, Kind::Changed)] {
        archive.store.put_bytes(&key("x"), pattern(size), Put::default()).await.unwrap();
        let mut object = archive.store.get(&key("x"), Get::default()).await.unwrap();
        object.body.next().await.unwrap().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(archive.path("x")).unwrap();
        if cut {
            file.set_len(CHUNK as u64).unwrap();
        } else {
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        let error = object.body.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.key(), Some("x"));
    }
}

#[tokio::test]
async fn a_body_that_fails_leaves_nothing() {
    let archive = archive().await;
    let broken =
        || stream::iter([Ok(pattern(CHUNK)), Err(Error::new(Kind::Unavailable, "cut"))]).boxed();
    let error = archive
        .store
        .put(&key("d/x"), Body::stream(None, broken()), Put::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let short = Body::stream(Some(9), stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed());
    let error = archive.store.put(&key("d/x"), short, Put::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(archive.tree().is_empty(), "{:?}", archive.tree());

    archive.store.put_bytes(&key("d/x"), "old", Put::default()).await.unwrap();
    archive.store.put(&key("d/x"), Body::stream(None, broken()), Put::default()).await.unwrap_err();
    assert_eq!(archive.store.get_bytes(&key("d/x"), 9).await.unwrap(), b"old");
}

#[tokio::test]
async fn create_tells_the_loser_and_keeps_the_bytes() {
    let archive = archive().await;
    archive.store.put_bytes(&key("x"), "winner", Put::create()).await.unwrap();
    let error = archive.store.put_bytes(&key("x"), "loser", Put::create()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key(), error.op()),
        (Kind::AlreadyExists, Some("x"), Some("put"))
    );
    assert_eq!(archive.store.get_bytes(&key("x"), 9).await.unwrap(), b"winner");
    assert_eq!(archive.tree(), ["x"]);
}

#[tokio::test]
async fn hard_links_create_as_exactly_as_renames() {
    let archive = archive().await;
    let path = archive.path("x");
    for (data, wins) in [("one", true), ("two", false)] {
        let mut temporary =
            crate::file::put::Temporary::create(&archive.store.inner, &path).unwrap();
        temporary.write(data.as_bytes()).unwrap();
        assert_eq!(temporary.link_new(&path).is_ok(), wins);
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"one");
    assert_eq!(archive.tree(), ["x"]);
}

#[tokio::test]
async fn deleting_is_idempotent_and_removes_empty_folders() {
    let archive = archive().await;
    for name in ["a/b/c/one", "a/b/two", "three"] {
        archive.store.put_bytes(&key(name), "1", Put::default()).await.unwrap();
    }
    let keys = [
        key("a/b/c/one"),
        key("missing"),
        key("a/b"),
        Key::foreign("../x"),
        key("three/not/a/folder"),
    ];
    let deleted = archive.store.delete(&keys).await.unwrap();
    let outcomes: Vec<_> =
        deleted.iter().map(|done| done.outcome.as_ref().map_err(Error::kind)).collect();
    assert_eq!(outcomes, [Ok(&()), Ok(&()), Ok(&()), Err(Kind::Invalid), Ok(&())]);
    assert!(deleted.iter().zip(&keys).all(|(done, key)| done.key == *key));
    assert_eq!(archive.tree(), ["a", "a/b", "a/b/two", "three"]);
    archive.store.delete(&[key("three"), key("a/b/two")]).await.unwrap();
    assert!(archive.tree().is_empty() && archive.root.path().is_dir());
    // The folder can be used again at once.
    archive.store.put_bytes(&key("a/b/two"), "2", Put::default()).await.unwrap();
}

#[tokio::test]
async fn copies_are_equal_and_need_a_source() {
    let archive = archive().await;
    for size in [0, 1, 3 * CHUNK + 1, 20 << 20] {
        let data = pattern(size);
        archive.store.put_bytes(&key("from"), data.clone(), Put::default()).await.unwrap();
        let stored = archive.store.copy(&key("from"), &key("other/to")).await.unwrap();
        assert_eq!(stored.size, size as u64);
        assert!(archive.store.get_bytes(&key("other/to"), u64::MAX).await.unwrap() == data);
    }
    for missing in ["nothing", "other", "other/to/x"] {
        let error = archive.store.copy(&key(missing), &key("y")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{missing}");
    }
    assert_eq!(archive.tree(), ["from", "other", "other/to"]);
}

#[tokio::test]
async fn readers_make_no_folders_and_missing_is_missing() {
    let archive = archive().await;
    archive.store.put_bytes(&key("file"), "1", Put::default()).await.unwrap();
    for name in ["no/such/object", "file/below", "no/", ""] {
        let error = archive.store.head(&key(name)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{name}");
        let error = archive.store.get(&key(name), Get::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{name}");
    }
    assert!(archive.store.list_all(&key("no/such/"), List::recursive()).await.unwrap().is_empty());
    assert_eq!(archive.tree(), ["file"]);
}

#[tokio::test]
async fn what_files_cannot_hold_is_refused() {
    let archive = archive().await;
    archive.store.put_bytes(&key("a/b"), "1", Put::default()).await.unwrap();
    let long = "x".repeat(256);
    let temporary = "x.tmp.20260428T113012Z-9f2c6a4b9f2c6a4b";
    for name in ["a", "a/b/c", "../outside", "a//b", "a/", &long, temporary] {
        let error =
            archive.store.put_bytes(&Key::foreign(name), "2", Put::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{name}: {error}");
    }
    archive.store.put_bytes(&key(&"y".repeat(255)), "2", Put::create()).await.unwrap();
    let tagged = Put { storage_class: Some("COLD".to_owned()), ..Put::default() };
    let error = archive.store.put_bytes(&key("t"), "2", tagged).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(archive.tree(), ["a".to_owned(), "a/b".to_owned(), "y".repeat(255)]);
}

#[tokio::test]
async fn a_missing_root_is_never_an_empty_archive() {
    let archive = archive().await;
    let gone = archive.path("gone");
    let error = FileStore::open(gone.clone(), Budget::new(1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint().is_some());
    std::fs::create_dir(&gone).unwrap();
    let store = open(&gone).await;
    std::fs::remove_dir(&gone).unwrap();
    let name = key("x");
    let errors = [
        store.head(&name).await.unwrap_err(),
        store.get(&name, Get::default()).await.unwrap_err(),
        store.list_all(&Key::root(), List::recursive()).await.unwrap_err(),
        store.put_bytes(&key("d/x"), "1", Put::default()).await.unwrap_err(),
        store.delete_one(&name).await.unwrap_err(),
        store.copy(&name, &key("y")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    assert!(!gone.exists());
}

#[tokio::test]
async fn the_registry_opens_paths_and_urls() {
    let archive = archive().await;
    let registry = crate::registry();
    let table = std::sync::Arc::new(Table::new(registry.settings()));
    let settings = Settings::new(table);
    let budget = Budget::new(1 << 20);
    let path = archive.root.path().to_str().unwrap();
    for target in [path.to_owned(), format!("file://{path}"), format!("file://localhost{path}/")] {
        let backend = registry.by_url(&target).unwrap();
        let store = (backend.open)(Open {
            target: &target,
            settings: &settings,
            budget: &budget,
            retries: 0,
        });
        store.await.unwrap().put_bytes(&key("x"), "1", Put::default()).await.unwrap();
    }
    assert_eq!(archive.tree(), ["x"]);
}

#[tokio::test]
async fn a_long_write_shows_signs_of_life() {
    let archive = archive().await;
    let how = Put::default();
    let activity = how.activity.clone();
    archive.store.put_bytes(&key("x"), pattern(17 << 20), how).await.unwrap();
    // One for the chunk, one at least for the sync.
    assert!(activity.touches() >= 2, "{}", activity.touches());
}
