//! `list`: complete, exact, in order, with true sizes and times.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use walport_engine::storage::{Class, Entry, Key, Kind, List, Put, StorageExt};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind, fail};

table! {
    "list.pages", "A listing beyond any page size is complete and has no duplicates", [], pages;
    "list.requests", "A long listing takes few requests", [Requests], requests;
    "list.order", "Keys come in the order of their bytes", [OrderedList], order;
    "list.meta", "A listing gives true sizes and times", [], meta;
    "list.empty", "A prefix that holds nothing lists as empty", [], empty;
    "list.delimiter", "Without recursion, what lies deeper shows once, as a prefix", [], delimiter;
    "list.after", "Only keys greater than the given one", [], after;
    "list.prefix-is-exact", "`ab` is not under `a/`, and `a` itself is not either", [], prefix_is_exact;
    "list.root", "The root lists too, and keys are relative to it", [], root;
    "list.dropped", "A listing that is broken off harms nobody", [], dropped;
    "keys.awkward", "Names with spaces, percent signs, quotes, accents and the like come back as they are", [], awkward;
    "keys.longest", "A key of the declared length works", [], longest;
    "keys.refused", "A name that cannot be stored is refused for good, never stored under another", [], refused;
    "time.sane", "The time of an object is that of its last write, within five minutes", [], time;
}

async fn populate(ctx: &Context, count: usize) -> Checked<Vec<Key>> {
    // As WAL is named: 24 hexadecimal digits and a suffix, over several folders.
    let keys: Vec<Key> = (0..count)
        .map(|n| ctx.key(&format!("wal_005/00000001{:08X}{:08X}.lz4", n / 256, n % 256)))
        .collect();
    ctx.put_many(&keys).await?;
    Ok(keys)
}

async fn pages(ctx: &Context) -> Checked {
    let keys = populate(ctx, ctx.either(1100, 2500)).await?;
    for (how, prefix) in
        [(List::recursive(), ctx.prefix.clone()), (List::default(), ctx.key("wal_005/"))]
    {
        let listed = ctx.list_how(&prefix, how.clone()).await.step("list")?;
        let distinct: BTreeSet<&Key> = listed.iter().collect();
        ensure!(
            distinct.len() == listed.len(),
            "a listing of {} objects shows {} of them twice",
            keys.len(),
            listed.len() - distinct.len()
        );
        ensure!(
            distinct.iter().copied().eq(keys.iter()),
            "{} objects were stored, a listing ({how:?}) shows {}",
            keys.len(),
            listed.len()
        );
    }
    Ok(())
}

async fn requests(ctx: &Context) -> Checked {
    let Some(count) = &ctx.subject.requests else { fail!("the subject has no such hook") };
    let keys = populate(ctx, ctx.either(1100, 2500)).await?;
    let before = count();
    let listed = ctx.list(&ctx.prefix).await.step("list")?.len();
    let used = count() - before;
    ensure!(listed == keys.len(), "{} objects were stored, {listed} are listed", keys.len());
    // Two folders and a page of 500 at least, whatever the store's page is.
    let allowed = 3 + keys.len() as u64 / 500;
    ensure!(
        used > 0,
        "the subject counted no request during a listing: does the store go through the proxy?"
    );
    ensure!(
        used <= allowed,
        "a listing of {listed} objects took {used} requests, {allowed} are enough"
    );
    Ok(())
}

/// Names as WAL-G makes them, and names that byte order and other orders sort
/// differently.
const ORDERED: &[&str] = &[
    "basebackups_005/base_000000010000000000000002/metadata.json",
    "basebackups_005/base_000000010000000000000002/tar_partitions/part_001.tar.lz4",
    "basebackups_005/base_000000010000000000000002/tar_partitions/part_010.tar.lz4",
    "basebackups_005/base_000000010000000000000002/tar_partitions/part_1.tar.lz4",
    "basebackups_005/base_000000010000000000000002/tar_partitions/pg_control.tar.lz4",
    "basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json",
    "basebackups_005/base_000000010000000000000004_D_000000010000000000000002_backup_stop_sentinel.json",
    "wal_005/000000010000000000000001.lz4",
    "wal_005/000000010000000000000002.00000028.backup.lz4",
    "wal_005/000000010000000000000002.lz4",
    "wal_005/00000001000000000000000A.lz4",
    "wal_005/00000002.history.lz4",
    // `-` and `.` sort before `/`, `0` after it: a walk over folders by name
    // gives another order than the keys have.
    "o/a/x",
    "o/a-b",
    "o/a.b",
    "o/a b",
    "o/a0",
    "o/b/c",
    "o/b-c",
    "o/b.c/d",
    "o/b0",
    "o/A",
    "o/Z",
    "o/_",
    "o/~",
    "o/é",
    "o/e",
    "o/f",
    "o/日本",
];

async fn order(ctx: &Context) -> Checked {
    let keys: BTreeSet<Key> = ORDERED.iter().map(|name| ctx.key(name)).collect();
    let mut shuffled: Vec<Key> = keys.iter().cloned().collect();
    ctx.shuffle(&mut shuffled);
    ctx.put_many(&shuffled).await?;
    let listed = ctx.list(&ctx.prefix).await.step("list")?;
    in_order(&listed)?;
    ensure!(
        listed.iter().eq(keys.iter()),
        "{} objects were stored, {} are listed",
        keys.len(),
        listed.len()
    );
    // One level: prefixes stand among the objects where their names belong.
    in_order(&ctx.list_how(&ctx.key("o/"), List::default()).await.step("list of one level")?)
}

fn in_order(listed: &[Key]) -> Checked {
    for pair in listed.windows(2) {
        ensure!(pair[0] < pair[1], "{:?} is listed before {:?}", pair[0], pair[1]);
    }
    Ok(())
}

async fn meta(ctx: &Context) -> Checked {
    let mut expected = BTreeMap::new();
    for size in [0, 1, 1000, 300_000] {
        let key = ctx.key(&format!("object-{size}"));
        ctx.put(&key, ctx.data(size)).await?;
        expected.insert(key, size);
    }
    for how in [List::recursive(), List::default()] {
        let mut seen = BTreeMap::new();
        for entry in ctx.store.list_all(&ctx.prefix, how).await.step("list")? {
            let Entry::Object(key, meta) = entry else {
                fail!("a listing of objects shows {:?}", entry.key())
            };
            ensure!(
                meta.modified.timestamp() > 0,
                "{key} is listed with the time {}",
                meta.modified
            );
            seen.insert(key, meta.size);
        }
        ensure!(seen == expected, "stored {expected:?}, listed {seen:?}");
    }
    Ok(())
}

async fn empty(ctx: &Context) -> Checked {
    for name in ["nothing/", "no/such/folder/"] {
        for how in [List::recursive(), List::default()] {
            let listed =
                ctx.list_how(&ctx.key(name), how).await.step(format_args!("list of {name}"))?;
            ensure!(listed.is_empty(), "list of {name}, which holds nothing, shows {listed:?}");
        }
    }
    Ok(())
}

async fn delimiter(ctx: &Context) -> Checked {
    for name in ["top", "a/one", "a/two", "b/c/deep", "b/c/deeper", "b/d/deep", "c c/é"] {
        ctx.put_text(&ctx.key(name), name).await?;
    }
    for (prefix, expected) in [
        ("", &["a/", "b/", "c c/", "top"][..]),
        ("a/", &["a/one", "a/two"]),
        ("b/", &["b/c/", "b/d/"]),
        ("b/c/", &["b/c/deep", "b/c/deeper"]),
    ] {
        let at = if prefix.is_empty() { ctx.prefix.clone() } else { ctx.key(prefix) };
        let entries = ctx.store.list_all(&at, List::default()).await.step("list of one level")?;
        for entry in &entries {
            let is_prefix = matches!(entry, Entry::Prefix(_));
            ensure!(
                is_prefix == entry.key().is_prefix(),
                "one level of {prefix:?} shows {entry:?}"
            );
        }
        let mut listed: Vec<Key> = entries.iter().map(|entry| entry.key().clone()).collect();
        listed.sort();
        let expected: Vec<Key> = expected.iter().map(|name| ctx.key(name)).collect();
        ensure!(
            listed == expected,
            "one level of {prefix:?} shows {listed:?} instead of {expected:?}"
        );
    }
    Ok(())
}

async fn after(ctx: &Context) -> Checked {
    let names = ["a", "b/x", "b/y", "b0", "c", "d/z"];
    let keys: BTreeSet<Key> = names.iter().map(|name| ctx.key(name)).collect();
    ctx.put_many(&keys.iter().cloned().collect::<Vec<_>>()).await?;
    for point in ["", "a", "aa", "b", "b/", "b/x", "b/xx", "b/y", "b/zzz", "b0", "c", "d/z", "zzz"]
    {
        // The prefix of the case itself is smaller than everything below it.
        let point = if point.is_empty() { ctx.prefix.clone() } else { ctx.key(point) };
        let how = List { recursive: true, after: Some(point.clone()) };
        let mut listed =
            ctx.list_how(&ctx.prefix, how).await.step(format_args!("list after {point}"))?;
        if ctx.limits().ordered_list {
            in_order(&listed).step(format_args!("list after {point}"))?;
        }
        listed.sort();
        let expected: Vec<&Key> = keys.iter().filter(|key| **key > point).collect();
        ensure!(
            listed.iter().eq(expected.iter().copied()),
            "list after {point} shows {listed:?} instead of {expected:?}"
        );
    }
    Ok(())
}

async fn prefix_is_exact(ctx: &Context) -> Checked {
    // No name is also the folder of another: a file system cannot hold that.
    for name in ["a/inside", "ab/x", "abc", "a.b", "A/inside", "c", "cd/x"] {
        ctx.put_text(&ctx.key(name), name).await?;
    }
    for (prefix, expected) in
        [("a/", Some("a/inside")), ("c/", None), ("ab/", Some("ab/x")), ("d/", None)]
    {
        for how in [List::recursive(), List::default()] {
            let listed =
                ctx.list_how(&ctx.key(prefix), how).await.step(format_args!("list of {prefix}"))?;
            let expected: Vec<Key> = expected.iter().map(|name| ctx.key(name)).collect();
            ensure!(
                listed == expected,
                "list of {prefix} shows {listed:?} instead of {expected:?}"
            );
        }
    }
    Ok(())
}

async fn root(ctx: &Context) -> Checked {
    let key = ctx.key("object");
    ctx.put_text(&key, "here").await?;
    let folder = Key::foreign(format!("{}/", ctx.prefix.as_str().split('/').next().unwrap_or("")));
    let listed = ctx.list_how(&Key::root(), List::default()).await.step("list of the root")?;
    ensure!(listed.contains(&folder), "one level of the root does not show {folder}");
    ensure!(
        listed.iter().all(|key| !key.as_str().starts_with('/') && !key.as_str().is_empty()),
        "one level of the root shows names that are not relative to it: {listed:?}"
    );
    let listed = ctx.list(&folder).await.step("list of the run's folder")?;
    ensure!(listed.contains(&key), "a listing of {folder} does not show {key}");
    Ok(())
}

async fn dropped(ctx: &Context) -> Checked {
    use futures_util::StreamExt;

    let keys: Vec<Key> = (0..30).map(|n| ctx.key(&format!("object-{n:02}"))).collect();
    ctx.put_many(&keys).await?;
    for _ in 0..20 {
        let mut listing = ctx.store.list(&ctx.prefix, List::recursive());
        listing.next().await.transpose().step("the first entry")?;
    }
    let listed = ctx.list(&ctx.prefix).await.step("list")?.len();
    ensure!(
        listed == keys.len(),
        "after twenty broken listings, {listed} of {} objects are listed",
        keys.len()
    );
    Ok(())
}

/// Names that some part of a client likes to encode, decode, trim or fold.
const AWKWARD: &[&str] = &[
    "a b",
    "a  b",
    "a+b",
    "a%b",
    "a%20b",
    "a%2Fb",
    "a%41b",
    "a%25b",
    "é",
    "e\u{301}",
    "日本/語",
    "\u{1F4BE}",
    "a&b",
    "a&amp;b",
    "a=b",
    "a'b",
    "a\"b",
    "a<b>c",
    "a#b",
    "a?b=c",
    "a;b",
    "a:b",
    "a,b",
    "a@b",
    "a$b",
    "a!b",
    "a*b",
    "a(b)",
    "a[b]",
    "a{b}",
    "a|b",
    "a^b",
    "a`b",
    "a~b",
    "UPPER",
    "upper",
    ".hidden",
    "dots..in",
    "-dash",
    "x/.hidden/y",
    "x/a b/c+d",
];

/// A name of about 900 bytes, in segments that a file system takes.
fn long_name() -> String {
    let segment = "long-name-of-an-object-".repeat(8);
    [&*segment, &segment, &segment, &segment, "end"].join("/")
}

async fn awkward(ctx: &Context) -> Checked {
    let mut names: Vec<String> = AWKWARD.iter().map(|name| (*name).to_owned()).collect();
    let room = ctx.limits().max_key.saturating_sub(ctx.prefix.as_str().len());
    names.push(long_name());
    names.retain(|name| name.len() <= room);
    let mut refused = Vec::new();
    let mut expected = BTreeSet::new();
    for name in &names {
        let key = ctx.key(name);
        // The text of each object is its own name, so that two keys which
        // became one are found.
        match ctx.store.put_bytes(&key, name.clone(), Put::default()).await {
            Ok(_) => drop(expected.insert(key)),
            Err(error) if error.kind() == Kind::Invalid => refused.push(name),
            Err(error) => return Err(error).step(format_args!("put of {name:?}")),
        }
    }
    ensure!(refused.is_empty(), "these names are refused: {refused:?}");
    let listed: BTreeSet<Key> = ctx.list(&ctx.prefix).await.step("list")?.into_iter().collect();
    for key in &expected {
        ensure!(listed.contains(key), "{key:?} was stored and is not listed");
        let text = ctx.store.get_bytes(key, 4096).await.step(format_args!("get of {key:?}"))?;
        let name = key.strip_prefix(&ctx.prefix).unwrap_or_default();
        ensure!(
            text == name.as_bytes(),
            "{key:?} holds the bytes of {:?}",
            String::from_utf8_lossy(&text)
        );
        let size = ctx.store.head(key).await.step(format_args!("head of {key:?}"))?.size;
        ensure!(size == name.len() as u64, "{key:?} has {size} bytes by head");
    }
    if let Some(other) = listed.iter().find(|key| !expected.contains(*key)) {
        fail!("{other:?} is listed and was never stored");
    }
    let keys: Vec<Key> = expected.into_iter().collect();
    for deleted in ctx.store.delete(&keys).await.step("delete")? {
        deleted.outcome.step(format_args!("delete of {:?}", deleted.key))?;
    }
    let left = ctx.list(&ctx.prefix).await.step("list")?;
    ensure!(left.is_empty(), "after all were deleted, {left:?} are left");
    Ok(())
}

async fn longest(ctx: &Context) -> Checked {
    let mut name = String::new();
    let room = ctx.limits().max_key.saturating_sub(ctx.prefix.as_str().len());
    ensure!(room >= 200, "max_key is {}: too short for the names of WAL-G", ctx.limits().max_key);
    while name.len() + 101 < room {
        name.push_str(&"k".repeat(99));
        name.push('/');
    }
    name.push_str(&"e".repeat(room - name.len()));
    let (key, data) = (ctx.key(&name), ctx.data(1000));
    ensure!(
        key.as_str().len() == ctx.limits().max_key,
        "the test made a key of {} bytes",
        key.as_str().len()
    );
    ctx.put(&key, data).await.step(format_args!("a key of {} bytes", key.as_str().len()))?;
    ctx.expect(&key, data).await?;
    let listed = ctx.list(&ctx.prefix).await.step("list")?;
    ensure!(listed == [key], "a listing shows {listed:?}");
    Ok(())
}

async fn refused(ctx: &Context) -> Checked {
    let folder = ctx.key("folder/");
    let result = ctx.store.put_bytes(&folder, "x", Put::default()).await;
    expect_kind(result, Kind::Invalid, "put of a name that ends in a slash")?;
    // Longer than declared: stored under its very name, or refused for good.
    let name = "k".repeat(ctx.limits().max_key + 1);
    let long = Key::foreign(format!("{}{name}", ctx.prefix));
    let what = format!("put of a name of {} bytes", long.as_str().len());
    let mut expected = Vec::new();
    match ctx.store.put_bytes(&long, "x", Put::default()).await {
        Ok(_) => expected.push(long),
        Err(error) => ensure!(
            error.class() == Class::Never,
            "{what} is refused as {:?}: {error}",
            error.class()
        ),
    }
    let listed = ctx.list(&ctx.prefix).await.step("list")?;
    ensure!(listed == expected, "after {what}, a listing shows {listed:?}");
    Ok(())
}

async fn time(ctx: &Context) -> Checked {
    let key = ctx.key("object");
    let before = Utc::now();
    ctx.put(&key, ctx.data(10)).await?;
    let first = ctx.store.head(&key).await.step("head")?.modified;
    let off = (first - before).num_seconds();
    ensure!(
        off.abs() <= 300,
        "the object was written at {before} and is said to be of {first}: {off} s apart"
    );
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    ctx.put(&key, ctx.data(20)).await?;
    let second = ctx.store.head(&key).await.step("head")?.modified;
    ensure!(second > first, "the object was replaced, and its time stayed {first} (now {second})");
    Ok(())
}
