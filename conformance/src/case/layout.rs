//! The WAL-G layout through a store: the very names, the very bytes.

use std::collections::BTreeSet;
use std::path::Path;

use walport_engine::backup::list;
use walport_engine::storage::{Entry, Key, Kind, List, StorageExt};
use walport_engine::wal::{fetch, push};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind};
use crate::engine;
use crate::golden::TREE;

table! {
    "layout.roundtrip", "A tree that WAL-G wrote comes back name for name and byte for byte", [], roundtrip;
    "layout.levels", "The folders of that tree list one level at a time, as the engine walks them", [], levels;
    "layout.engine-reads", "The engine lists the backups of that tree and fetches its WAL files", [], engine_reads;
    "layout.engine-writes", "What the engine archives there has WAL-G's names and bytes, once", [], engine_writes;
}

/// Puts the golden tree under the prefix of the case, in another order.
async fn plant(ctx: &Context) -> Checked {
    let mut objects: Vec<_> = TREE.to_vec();
    ctx.shuffle(&mut objects);
    for (name, bytes) in objects {
        let how = walport_engine::storage::Put::default();
        let stored = ctx
            .store
            .put_bytes(&ctx.key(name), bytes, how)
            .await
            .step(format_args!("put of {name}"))?;
        ensure!(
            stored.size == bytes.len() as u64,
            "{name}: the store says it stored {} bytes",
            stored.size
        );
    }
    Ok(())
}

async fn roundtrip(ctx: &Context) -> Checked {
    plant(ctx).await?;
    let again = ctx.reopen().await?;
    for (name, bytes) in TREE {
        let back =
            again.get_bytes(&ctx.key(name), 1 << 20).await.step(format_args!("get of {name}"))?;
        ensure!(back == *bytes, "{name} came back with other bytes");
    }
    let listed: BTreeSet<Key> = ctx.list(&ctx.prefix).await.step("list")?.into_iter().collect();
    let stored: BTreeSet<Key> = TREE.iter().map(|(name, _)| ctx.key(name)).collect();
    let odd: Vec<_> = listed.symmetric_difference(&stored).collect();
    ensure!(
        odd.is_empty(),
        "these names differ between what was stored and what is listed: {odd:?}"
    );
    Ok(())
}

async fn levels(ctx: &Context) -> Checked {
    plant(ctx).await?;
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let expected: BTreeSet<String> = TREE
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(&folder))
            .map(|rest| {
                rest.split_once('/')
                    .map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/"))
            })
            .collect();
        let at = if folder.is_empty() { ctx.prefix.clone() } else { ctx.key(&folder) };
        let mut seen = BTreeSet::new();
        for entry in ctx
            .store
            .list_all(&at, List::default())
            .await
            .step(format_args!("list of {folder:?}"))?
        {
            let name = entry.key().strip_prefix(&at).unwrap_or_default().to_owned();
            if let Entry::Prefix(_) = entry {
                folders.push(format!("{folder}{name}"));
            }
            ensure!(seen.insert(name.clone()), "{name} is listed twice in {folder:?}");
        }
        ensure!(seen == expected, "{folder:?} lists {seen:?} instead of {expected:?}");
    }
    Ok(())
}

/// The backups of the tree, in the order in which they were taken.
const BACKUPS: [&str; 3] = [
    "base_000000010000000000000002",
    "base_000000010000000000000004_D_000000010000000000000002",
    "base_000000010000000000000006_D_000000010000000000000004",
];

/// WAL files that the tree holds uncompressed.
const PLAIN_WAL: [&str; 2] = ["00000002.history", "000000010000000000000002.00000028.backup"];

fn golden(name: &str) -> &'static [u8] {
    TREE.iter().find(|(known, _)| *known == name).map_or(&[], |(_, bytes)| bytes)
}

fn scratch() -> Checked<tempfile::TempDir> {
    Ok(tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?)
}

fn write(path: &Path, bytes: &[u8]) -> Checked {
    Ok(std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Fetches a WAL file through the engine and compares it.
async fn expect_fetched(ctx: &Context, scratch: &Path, name: &str, bytes: &[u8]) -> Checked {
    let context = engine::context(ctx.store.clone(), ctx.prefix.as_str())?;
    let to = scratch.join("fetched");
    let found = fetch::fetch(&context, name, &to).await.step(format_args!("wal-fetch {name}"))?;
    ensure!(found == fetch::Fetched::Found, "wal-fetch {name} says that there is no such file");
    let got = std::fs::read(&to).map_err(|error| format!("wal-fetch {name}: {error}"))?;
    ensure!(got == bytes, "wal-fetch {name} gives other bytes than were stored");
    Ok(std::fs::remove_file(&to).map_err(|error| format!("{}: {error}", to.display()))?)
}

async fn engine_reads(ctx: &Context) -> Checked {
    plant(ctx).await?;
    let context = engine::context(ctx.store.clone(), ctx.prefix.as_str())?;
    let backups = list::list(&context, true).await.step("backup-list --detail")?;
    let names: Vec<&str> = backups.iter().map(|backup| &*backup.name).collect();
    ensure!(names == BACKUPS, "backup-list shows {names:?}");
    for backup in &backups {
        let permanent = backup.detail.as_ref().map(|detail| detail.is_permanent);
        ensure!(
            permanent == Some(true),
            "backup-list gives {:?} for {}",
            backup.detail,
            backup.name
        );
        list::sentinel(&context, &backup.name)
            .await
            .step(format_args!("the sentinel of {}", backup.name))?;
    }
    let folder = scratch()?;
    for name in PLAIN_WAL {
        expect_fetched(ctx, folder.path(), name, golden(&format!("wal_005/{name}"))).await?;
    }
    let missing =
        fetch::fetch(&context, "0000000100000000000000FF", &folder.path().join("none")).await;
    let missing = missing.step("wal-fetch of a file that is not there")?;
    ensure!(
        missing == fetch::Fetched::Missing,
        "wal-fetch of a file that is not there gives {missing:?}"
    );
    Ok(())
}

async fn engine_writes(ctx: &Context) -> Checked {
    let folder = scratch()?;
    let context = engine::context(ctx.store.clone(), ctx.prefix.as_str())?;
    // PostgreSQL's smallest segment, or its default.
    let size = ctx.either(1 << 20, 16 << 20);
    let segment = ctx.data(size).bytes(0..size);
    let files = [
        (PLAIN_WAL[0], golden(&format!("wal_005/{}", PLAIN_WAL[0]))),
        (PLAIN_WAL[1], golden(&format!("wal_005/{}", PLAIN_WAL[1]))),
        ("000000010000000000000021", &segment[..]),
    ];
    for (name, bytes) in files {
        let path = folder.path().join(name);
        write(&path, bytes)?;
        // PostgreSQL may ask again for what is archived already.
        for round in ["", " again"] {
            push::push(&context, &path).await.step(format_args!("wal-push {name}{round}"))?;
        }
        let key = ctx.key(&format!("wal_005/{name}"));
        let stored =
            ctx.store.get_bytes(&key, 32 << 20).await.step(format_args!("get of {name}"))?;
        ensure!(stored == bytes, "wal-push {name} stored other bytes");
        expect_fetched(ctx, folder.path(), name, bytes).await?;
    }
    let listed: BTreeSet<Key> = ctx.list(&ctx.prefix).await.step("list")?.into_iter().collect();
    let expected = files.map(|(name, _)| ctx.key(&format!("wal_005/{name}")));
    ensure!(listed == BTreeSet::from(expected), "wal-push of three files made {listed:?}");
    // A history file is never replaced by another.
    let path = folder.path().join(PLAIN_WAL[0]);
    write(&path, b"1\t0/0\tother\n")?;
    expect_kind(
        push::push(&context, &path).await,
        Kind::AlreadyExists,
        "wal-push of another history file",
    )?;
    let kept = ctx.store.get_bytes(&ctx.key(&format!("wal_005/{}", PLAIN_WAL[0])), 4096).await;
    ensure!(kept.step("get of the history file")? == files[0].1, "the history file was replaced");
    Ok(())
}
