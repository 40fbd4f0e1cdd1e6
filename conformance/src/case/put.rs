//! `put`: what is stored, when it is safe, and what a broken writer leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, pin_mut, stream};
use tokio::sync::Notify;
use walport_engine::memory::CHUNK;
use walport_engine::storage::{Body, Entry, Key, List, Put, Stored};

use super::table;
use crate::context::{Checked, Context, Step, ensure, fail, failing_body};
use crate::data::{BLOCK, Data};

table! {
    "put.roundtrip", "What was stored comes back byte for byte, with its size", [], roundtrip;
    "put.sizes", "Bodies of 0 bytes up to several parts, of known and unknown size, arrive whole", [], sizes;
    "put.durable", "What was acknowledged is there when the store is opened anew", [], durable;
    "put.replace", "An existing object is replaced, whole, by a shorter and by a longer one", [], replace;
    "put.atomic", "A writer killed at any 64 KiB of 1 MiB leaves nothing, or the old object", [AtomicPut], atomic;
    "put.abort", "A body that ends with an error fails the put and leaves nothing, or the old object", [AtomicPut], abort;
    "put.wrong-size", "A body that is shorter or longer than its size fails the put and leaves nothing", [AtomicPut], wrong_size;
    "put.no-leftovers", "Broken writers leave no unfinished uploads or temporary files behind", [AtomicPut, Unfinished], no_leftovers;
    "put.replace-atomic", "Readers of an object that is replaced over and over see one version, whole", [AtomicReplace], replace_atomic;
}

async fn roundtrip(ctx: &Context) -> Checked {
    for (name, size) in [("small", 100), ("nested/deep/er/file", 100_000)] {
        let (key, data) = (ctx.key(name), ctx.data(size));
        ctx.put(&key, data).await?;
        ctx.expect(&key, data).await?;
        let meta = ctx.store.head(&key).await.step("head")?;
        ensure!(meta.size == size, "head gives {} bytes, {size} were stored", meta.size);
    }
    Ok(())
}

/// Sizes on both sides of every border that a store may have.
fn border_sizes(ctx: &Context) -> Vec<u64> {
    let chunk = CHUNK as u64;
    let mut sizes = vec![0, 1, chunk - 1, chunk, chunk + 1];
    let largest = ctx.either(16 << 20, 80 << 20);
    let part = ctx.limits().min_part;
    if part > 0 {
        sizes.extend([part - 1, part, part + 1, 2 * part + 1]);
    }
    // Clients switch from one request to several at such sizes of their own.
    sizes.extend([(8 << 20) + 1, (64 << 20) + 1]);
    sizes.retain(|size| *size <= largest && *size <= ctx.limits().max_object);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

async fn sizes(ctx: &Context) -> Checked {
    for size in border_sizes(ctx) {
        for known in [true, false] {
            let key = ctx.key(&format!("{size}-{known}"));
            let data = ctx.data(size);
            ctx.put_to(&ctx.store, &key, data, known).await?;
            ctx.expect(&key, data).await?;
            let meta = ctx.store.head(&key).await.step("head")?;
            ensure!(meta.size == size, "head gives {} bytes, {size} were stored", meta.size);
        }
    }
    // An estimate is a hint, and may be wrong in both directions.
    for (estimate, size) in [(1, 300_000), (100 << 20, 300_000)] {
        let (key, data) = (ctx.key(&format!("estimate-{estimate}")), ctx.data(size));
        let how = Put { expected_size: Some(estimate), ..Put::default() };
        let stored = ctx
            .store
            .put(&key, data.body(false, &ctx.progress), how)
            .await
            .step("put with an estimate")?;
        ensure!(
            stored.size == size,
            "put with an estimate of {estimate}: {} bytes stored of {size}",
            stored.size
        );
        ctx.expect(&key, data).await?;
    }
    Ok(())
}

async fn durable(ctx: &Context) -> Checked {
    let sizes = [0, 1, 100_000, ctx.limits().min_part.clamp(CHUNK as u64, 8 << 20) + 1];
    let mut stored = Vec::new();
    for size in sizes {
        let (key, data) = (ctx.key(&format!("durable/{size}")), ctx.data(size));
        ctx.put(&key, data).await?;
        // Opened at once: nothing may still be on its way.
        let again = ctx.reopen().await?;
        ctx.expect_from(&again, &key, data).await.step("after opening the store anew")?;
        stored.push((key, data));
    }
    let again = ctx.reopen().await?;
    let mut listed: Vec<Key> = Vec::new();
    let mut entries = again.list(&ctx.prefix, List::recursive());
    while let Some(entry) = entries.next().await {
        listed.push(entry.step("list after opening the store anew")?.key().clone());
    }
    for (key, _) in stored {
        ensure!(
            listed.contains(&key),
            "after opening the store anew, a listing does not show {key}"
        );
    }
    Ok(())
}

async fn replace(ctx: &Context) -> Checked {
    let key = ctx.key("replaced");
    for size in [100_000, 10, 400_000, 0, 1] {
        let data = ctx.data(size);
        ctx.put(&key, data).await?;
        ctx.expect(&key, data).await.step(format_args!("after replacing with {size} bytes"))?;
        let mut entries = ctx.store.list(&ctx.prefix, List::recursive());
        let mut listed = Vec::new();
        while let Some(entry) = entries.next().await {
            if let Entry::Object(key, meta) = entry.step("list")? {
                listed.push((key, meta.size));
            }
        }
        ensure!(
            listed == [(key.clone(), size)],
            "after replacing with {size} bytes, a listing shows {listed:?}"
        );
    }
    Ok(())
}

/// What must be visible under a key while, and after, a writer fails.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Old(Data),
}

async fn expect_before(ctx: &Context, key: &Key, before: Before, when: &str) -> Checked {
    match before {
        Before::Nothing => ctx.expect_absent(key, when).await,
        Before::Old(data) => {
            let meta = ctx.store.head(key).await.step(when)?;
            ensure!(
                meta.size == data.size(),
                "{when}: head gives {} bytes, the old object has {}",
                meta.size,
                data.size()
            );
            ctx.expect(key, data).await.step(when)
        }
    }
}

/// A body that sends `blocks` blocks of `data` and then never moves again;
/// `reached` is told when the store asks for more.
fn stalling_body(data: Data, blocks: u64, reached: &Arc<Notify>, ctx: &Context) -> Body {
    let reached = Arc::clone(reached);
    let silence = stream::once(async move {
        reached.notify_one();
        std::future::pending::<()>().await;
        Ok(Bytes::new())
    });
    let stream = data.stream(&ctx.progress).take(blocks as usize).chain(silence).boxed();
    Body::stream(Some(data.size()), stream)
}

/// Begins a put, waits until the store has taken `blocks` blocks, looks, drops
/// the put, and looks again.
async fn kill_at(ctx: &Context, key: &Key, blocks: u64, before: Before) -> Checked {
    let data = ctx.data(1 << 20);
    let reached = Arc::new(Notify::new());
    {
        let writing =
            ctx.store.put(key, stalling_body(data, blocks, &reached, ctx), Put::default());
        let looking = async {
            reached.notified().await;
            // The store may still be handling what it took.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let when = format!("while a writer is at {} KiB", blocks * BLOCK / 1024);
            expect_before(ctx, key, before, &when).await
        };
        pin_mut!(writing, looking);
        match select(writing, looking).await {
            Either::Left((Ok(_), _)) => {
                fail!("the put of a body that had not ended returned success")
            }
            Either::Left((Err(error), _)) => fail!("the put failed before its body did: {error}"),
            Either::Right((seen, _)) => seen?,
        }
    }
    let when = format!("after a writer was killed at {} KiB", blocks * BLOCK / 1024);
    expect_before(ctx, key, before, &when).await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    expect_before(ctx, key, before, &when).await
}

async fn atomic(ctx: &Context) -> Checked {
    for blocks in 0..=16 {
        kill_at(ctx, &ctx.key(&format!("new-{blocks}")), blocks, Before::Nothing).await?;
    }
    let old = ctx.data(70_000);
    let key = ctx.key("old");
    ctx.put(&key, old).await?;
    for blocks in 0..=16 {
        kill_at(ctx, &key, blocks, Before::Old(old)).await?;
    }
    // The name is not blocked by the dead writers.
    let new = ctx.data(1 << 20);
    ctx.put(&key, new).await?;
    ctx.expect(&key, new).await
}

/// How far the failing bodies get: within the first chunk, and past a part.
fn breaking_points(ctx: &Context) -> Vec<u64> {
    let past_a_part = (ctx.limits().min_part + BLOCK).next_multiple_of(BLOCK);
    let mut points = vec![0, BLOCK, 10 * BLOCK];
    if (1 << 20..=16 << 20).contains(&past_a_part) {
        points.push(past_a_part);
    }
    points
}

async fn abort(ctx: &Context) -> Checked {
    let old = ctx.data(70_000);
    let replaced = ctx.key("old");
    ctx.put(&replaced, old).await?;
    for until in breaking_points(ctx) {
        for known in [true, false] {
            let fresh = ctx.key(&format!("new-{until}-{known}"));
            for (key, before) in [(&fresh, Before::Nothing), (&replaced, Before::Old(old))] {
                let data = ctx.data(until + 3 * BLOCK);
                let body = failing_body(data, until, known, &ctx.progress);
                let when = format!("after a body broke at {} KiB", until / 1024);
                broken_put(ctx.store.put(key, body, Put::default()).await, &when)?;
                expect_before(ctx, key, before, &when).await?;
            }
        }
    }
    Ok(())
}

fn broken_put(result: walport_engine::Result<Stored>, when: &str) -> Checked {
    match result {
        Ok(stored) => fail!("{when}, put returned success with {} bytes", stored.size),
        Err(_) => Ok(()),
    }
}

async fn wrong_size(ctx: &Context) -> Checked {
    for (told, sent) in [(100_001, 100_000), (99_999, 100_000), (0, 1), (1, 0)] {
        for if_absent in [false, ctx.limits().create_if_absent] {
            let key = ctx.key(&format!("{told}-{sent}-{if_absent}"));
            let body = Body::stream(Some(told), ctx.data(sent).stream(&ctx.progress));
            let how = Put { if_absent, ..Put::default() };
            let when = format!("after a body of {sent} bytes that was to have {told}");
            broken_put(ctx.store.put(&key, body, how).await, &when)?;
            ctx.expect_absent(&key, &when).await?;
        }
    }
    Ok(())
}

async fn no_leftovers(ctx: &Context) -> Checked {
    let Some(unfinished) = &ctx.subject.unfinished else { fail!("the subject has no such hook") };
    for until in breaking_points(ctx) {
        let data = ctx.data(until + 3 * BLOCK);
        let body = failing_body(data, until, false, &ctx.progress);
        let key = ctx.key(&format!("broken-{until}"));
        broken_put(ctx.store.put(&key, body, Put::default()).await, "after a body broke")?;
        kill_at(
            ctx,
            &ctx.key(&format!("killed-{until}")),
            until.min(1 << 20) / BLOCK,
            Before::Nothing,
        )
        .await?;
    }
    // The abort of a dropped writer happens behind its back: give it time.
    let mut left = Vec::new();
    for _ in 0..100 {
        left = unfinished(ctx.prefix.clone()).await.step("listing unfinished uploads")?;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fail!("broken writers left {} behind: {}", left.len(), left.join(", "))
}

async fn replace_atomic(ctx: &Context) -> Checked {
    let key = ctx.key("replaced");
    let versions = [ctx.data(200_000), ctx.data(330_000)];
    ctx.put(&key, versions[0]).await?;
    let done = AtomicBool::new(false);
    let writer = async {
        let result = async {
            for round in 1..=ctx.either(20, 60) {
                ctx.put(&key, versions[round % 2]).await?;
            }
            Checked::Ok(())
        };
        let result = result.await;
        done.store(true, Ordering::Relaxed);
        result
    };
    let reader = || async {
        while !done.load(Ordering::Relaxed) {
            read_one_of(ctx, &key, versions).await?;
            tokio::task::yield_now().await;
        }
        Checked::Ok(())
    };
    futures_util::try_join!(writer, reader(), reader(), reader())?;
    Ok(())
}

/// Reads the object; it must be one of the versions, whole. The version may
/// change under the reader: that is an error which says so, and is no splice.
async fn read_one_of(ctx: &Context, key: &Key, versions: [Data; 2]) -> Checked {
    use walport_engine::storage::{Get, Kind};

    let head = ctx.store.head(key).await.step("head while the object is replaced")?;
    ensure!(
        versions.iter().any(|data| data.size() == head.size),
        "head while the object is replaced gives {} bytes, which no version has",
        head.size
    );
    let object = match ctx.store.get(key, Get::default()).await {
        Err(error) if error.kind() == Kind::Changed => return Ok(()),
        other => other.step("get while the object is replaced")?,
    };
    let Some(data) = versions.into_iter().find(|data| data.size() == object.meta.size) else {
        fail!(
            "get while the object is replaced gives {} bytes, which no version has",
            object.meta.size
        );
    };
    let mut checker = data.checker(0..data.size());
    let mut body = object.body;
    while let Some(chunk) = body.next().await {
        match chunk {
            Err(error) if error.kind() == Kind::Changed => return Ok(()),
            chunk => checker
                .feed(&chunk.step("reading while the object is replaced")?)
                .step("reading while the object is replaced")?,
        }
    }
    checker.finish().step("reading while the object is replaced")
}
