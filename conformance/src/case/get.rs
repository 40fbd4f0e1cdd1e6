//! `get`: whole objects, ranges, pinned versions, and streams that are cut.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use walport_engine::storage::{Class, Error, Get, Kind, Object};

use super::table;
use crate::context::{Checked, Context, Step, drain, ensure, expect_kind, fail};
use crate::data::{BLOCK, Data};
use crate::fault::{Fault, Reply};

table! {
    "get.missing", "A missing object is NotFound, with and without a range, and so is a prefix", [], missing;
    "get.range", "A range gives exactly its bytes", [], range;
    "get.range-edges", "A range past the end is cut there; one that begins past it is Invalid", [], range_edges;
    "get.pinned", "With a version, an object that changed since is Changed, never other bytes", [PinnedReads], pinned;
    "get.concurrent", "Many readers of one object at a time each get their own bytes", [], concurrent;
    "get.dropped", "A reader that goes away early harms nobody", [], dropped;
    "get.truncated", "A stream that is cut short yields an error, never a silent end", [Faults], truncated;
    "get.slow", "A slow stream that moves is not cut", [Faults], slow;
    "get.resumed", "After a reset, a range from where it broke gives the rest, pinned to the version", [Faults, PinnedReads], resumed;
}

async fn missing(ctx: &Context) -> Checked {
    ctx.put_text(&ctx.key("folder/object"), "here").await?;
    for name in ["nothing", "folder", "folder/nothing", "folder/object/below"] {
        let key = ctx.key(name);
        expect_kind(
            ctx.store.get(&key, Get::default()).await,
            Kind::NotFound,
            format_args!("get of {name}"),
        )?;
        expect_kind(
            ctx.store.get(&key, Get::range(0..10)).await,
            Kind::NotFound,
            format_args!("get of a range of {name}"),
        )?;
    }
    Ok(())
}

async fn range(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(3 * BLOCK + 777));
    ctx.put(&key, data).await?;
    let size = data.size();
    let mut ranges = vec![0..1, 0..size, size - 1..size, BLOCK - 1..BLOCK + 1, BLOCK..2 * BLOCK];
    for _ in 0..ctx.either(10, 50) {
        let from = ctx.random(0..size);
        ranges.push(from..ctx.random(from + 1..size + 1));
    }
    for range in ranges {
        ctx.expect_range(&key, data, range.clone(), range).await?;
    }
    Ok(())
}

async fn range_edges(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(100_000));
    ctx.put(&key, data).await?;
    ctx.expect_range(&key, data, 99_990..100_010, 99_990..100_000).await?;
    ctx.expect_range(&key, data, 0..u64::MAX, 0..100_000).await.step("a range without end")?;
    ctx.expect_range(&key, data, 99_999..1 << 40, 99_999..100_000).await?;
    let past = ctx.store.get(&key, Get::range(100_001..100_002)).await;
    expect_kind(past, Kind::Invalid, "get of a range that begins past the end")?;
    let far = ctx.store.get(&key, Get::range(1 << 40..1 << 41)).await;
    expect_kind(far, Kind::Invalid, "get of a range that begins far past the end")?;
    let (key, data) = (ctx.key("empty"), ctx.data(0));
    ctx.put(&key, data).await?;
    ctx.expect(&key, data).await.step("an empty object")
}

async fn pinned(ctx: &Context) -> Checked {
    let key = ctx.key("pinned");
    let (first, second) = (ctx.data(100_000), ctx.data(100_000));
    let stored = ctx.put(&key, first).await?;
    let Some(version) = ctx.store.head(&key).await.step("head")?.version else {
        fail!("pinned_reads is declared, and head gives no version");
    };
    if let Some(told) = stored.version {
        ensure!(told == version, "put gives version {told}, head gives {version}");
    }
    let at = |range: Option<std::ops::Range<u64>>| Get { range, version: Some(version.clone()) };
    let object = ctx.store.get(&key, at(None)).await.step("get of the version that is there")?;
    ensure!(
        object.meta.version.as_deref() == Some(&*version),
        "get of version {version} says it is {:?}",
        object.meta.version
    );
    drain(object, first, 0..first.size()).await?;
    ctx.put(&key, second).await?;
    for range in [None, Some(50_000..60_000)] {
        match ctx.store.get(&key, at(range)).await {
            Err(error) => {
                expect_kind::<()>(Err(error), Kind::Changed, "get of a version that is gone")?;
            }
            // Where old versions are kept, the old bytes are right as well.
            Ok(object) => {
                let range = object.range.clone();
                drain(object, first, range).await.step("get of a version that was replaced")?;
            }
        }
    }
    let now = ctx.store.head(&key).await.step("head")?.version;
    ensure!(
        now.is_some() && now.as_deref() != Some(&*version),
        "replaced by other bytes, the object keeps its version {version}"
    );
    let how = Get { range: Some(10..20), version: now };
    let object = ctx.store.get(&key, how).await.step("get of the version that is there now")?;
    drain(object, second, 10..20).await
}

async fn concurrent(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(20 * BLOCK));
    ctx.put(&key, data).await?;
    let readers = (0..16).map(|reader| {
        let (key, from) = (&key, reader * BLOCK);
        async move {
            ctx.expect_range(key, data, from..data.size(), from..data.size()).await?;
            ctx.expect(key, data).await
        }
    });
    try_join_all(readers).await.map(drop)
}

async fn dropped(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(40 * BLOCK));
    ctx.put(&key, data).await?;
    for _ in 0..20 {
        let mut object = ctx.store.get(&key, Get::default()).await.step("get")?;
        object.body.next().await.transpose().step("the first bytes")?;
    }
    ctx.expect(&key, data).await.step("after twenty readers went away")
}

async fn truncated(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(16 * BLOCK));
    ctx.put(&key, data).await?;
    let (store, faults, dialect) = ctx.faulty().await?;
    store.head(&key).await.step("head through the proxy")?;
    for after in [10_000, 300_000, 900_000] {
        for fault in [Fault::ResetReply { after }, Fault::CloseReply { after }] {
            faults.arm(fault.clone());
            let result = store.get(&key, Get::default()).await;
            let error = match result {
                Err(error) => Some(error),
                Ok(object) => error_of(object, data).await.step(format_args!("{fault:?}"))?,
            };
            ensure!(
                faults.fired() == 1,
                "{fault:?} did not happen: does the store go through the proxy?"
            );
            let Some(error) = error else {
                fail!("{fault:?}: every byte came, although the connection broke");
            };
            ensure!(error.class() != Class::Never, "{fault:?} is reported as final: {error}");
            // The store works again at once.
            ctx.expect_from(&store, &key, data).await.step(format_args!("after {fault:?}"))?;
        }
    }
    if dialect.is_some() {
        let short = Reply::ok(data.bytes(0..50_000))
            .header("ETag", "\"0\"")
            .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .cut(20_000, crate::fault::Ending::Close);
        faults.arm(Fault::Answer(short));
        let Ok(object) = store.get(&key, Get::default()).await else { return Ok(()) };
        let mut body = object.body;
        loop {
            match body.next().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break,
                None => fail!(
                    "a body of 20,000 bytes under a Content-Length of 50,000 ended without an error"
                ),
            }
        }
    }
    Ok(())
}

/// Reads a stream that should break: the error, or `None` if every byte came.
async fn error_of(object: Object, data: Data) -> Checked<Option<Error>> {
    let mut checker = data.checker(0..data.size());
    let mut body = object.body;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => checker.feed(&chunk)?,
            Err(error) => return Ok(Some(error)),
        }
    }
    checker.finish()?;
    Ok(None)
}

async fn slow(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(100_000));
    ctx.put(&key, data).await?;
    let (store, faults, _) = ctx.faulty().await?;
    faults.arm(Fault::SlowReply { bytes: 4096, every: Duration::from_millis(ctx.either(40, 400)) });
    let read = ctx.expect_from(&store, &key, data).await;
    faults.disarm();
    read.step("a stream of 4 KiB at a time")?;
    ensure!(faults.fired() > 0, "the fault did not happen: does the store go through the proxy?");
    Ok(())
}

async fn resumed(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(16 * BLOCK));
    ctx.put(&key, data).await?;
    let (store, faults, _) = ctx.faulty().await?;
    let version = store.head(&key).await.step("head through the proxy")?.version;
    ensure!(version.is_some(), "pinned_reads is declared, and head gives no version");
    faults.arm(Fault::ResetReply { after: 500_000 });
    let mut at = 0;
    let mut checker = data.checker(0..data.size());
    for _ in 0..3 {
        let how = Get { range: Some(at..data.size()), version: version.clone() };
        // The reset may come before the stream is open.
        let Ok(object) = store.get(&key, how).await else { continue };
        ensure!(
            object.range == (at..data.size()),
            "asked for bytes from {at}, got {:?}",
            object.range
        );
        let mut body = object.body;
        while let Some(Ok(chunk)) = body.next().await {
            checker.feed(&chunk)?;
            at += chunk.len() as u64;
        }
        if at == data.size() {
            break;
        }
    }
    checker.finish()?;
    ensure!(faults.fired() == 1, "the fault did not happen: does the store go through the proxy?");
    // A change in between is an error, never a splice.
    faults.arm(Fault::ResetReply { after: 300_000 });
    if let Ok(mut object) = store.get(&key, Get { range: None, version: version.clone() }).await {
        while let Some(Ok(_)) = object.body.next().await {}
    }
    faults.disarm();
    ctx.put(&key, ctx.data(16 * BLOCK)).await?;
    match store.get(&key, Get { range: Some(100..200), version }).await {
        Err(error) => {
            expect_kind::<()>(Err(error), Kind::Changed, "resuming an object that was replaced")
                .map(drop)
        }
        Ok(object) => {
            drain(object, data, 100..200).await.step("resuming an object that was replaced")
        }
    }
}
