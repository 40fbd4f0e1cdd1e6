//! Many at once, and how much memory it takes.

use futures_util::future::try_join_all;
use walport_engine::storage::List;

use super::table;
use crate::context::{Checked, Context, Step, ensure, fail};

table! {
    "concurrent.put", "Sixteen writers at once, each object whole", [], put;
    "concurrent.mixed", "Readers, writers, listings and deletions at once do not disturb each other", [], mixed;
    "memory.bounded", "One large upload and download stay within the bound of memory", [Memory], bounded;
    "memory.concurrent", "Sixteen uploads and downloads at once stay within the same bound", [Memory], many;
}

async fn put(ctx: &Context) -> Checked {
    let writers = (0..16_u64).map(|writer| async move {
        for round in 0..ctx.either(2, 8) {
            let key = ctx.key(&format!("writer-{writer}/{round}"));
            let data = ctx.data(200_000 + 1000 * writer + round);
            ctx.put_to(&ctx.store, &key, data, writer % 2 == 0).await?;
            ctx.expect(&key, data).await?;
        }
        Checked::Ok(())
    });
    try_join_all(writers).await?;
    let listed = ctx.list(&ctx.prefix).await.step("list")?.len();
    let expected = 16 * ctx.either(2, 8);
    ensure!(listed == expected, "{expected} objects were stored at once, {listed} are listed");
    Ok(())
}

async fn mixed(ctx: &Context) -> Checked {
    let steady = ctx.data(300_000);
    let steady_key = ctx.key("steady");
    ctx.put(&steady_key, steady).await?;
    let rounds = ctx.either(10, 40);
    let writer = async {
        for round in 0..rounds {
            let (key, data) = (ctx.key(&format!("passing/{round}")), ctx.data(50_000));
            ctx.put(&key, data).await?;
            ctx.expect(&key, data).await?;
            for deleted in ctx.store.delete(std::slice::from_ref(&key)).await.step("delete")? {
                deleted.outcome.step("delete")?;
            }
        }
        Checked::Ok(())
    };
    let reader = async {
        for _ in 0..rounds {
            ctx.expect(&steady_key, steady).await?;
        }
        Checked::Ok(())
    };
    let lister = async {
        for _ in 0..rounds {
            let listed = ctx.list_how(&ctx.prefix, List::recursive()).await.step("list")?;
            ensure!(
                listed.contains(&steady_key),
                "a listing beside other work does not show {steady_key}"
            );
        }
        Checked::Ok(())
    };
    futures_util::try_join!(writer, reader, lister)?;
    Ok(())
}

async fn bounded(ctx: &Context) -> Checked {
    let size = ctx.either(64 << 20, 1 << 30).max(2 * ctx.memory.unwrap_or(0));
    within_memory(ctx, 1, size).await
}

async fn many(ctx: &Context) -> Checked {
    // Together more than the bound as well, so that holding them all shows.
    let size = ctx.either(8 << 20, 64 << 20).max(ctx.memory.unwrap_or(0) / 8);
    within_memory(ctx, 16, size).await
}

/// Puts and gets `count` objects of `size` bytes at once. The whole process is
/// measured, since that is what the operator's limit is about.
async fn within_memory(ctx: &Context, count: u64, size: u64) -> Checked {
    let Some(bound) = ctx.memory else { fail!("no memory bound was given") };
    let keys: Vec<_> =
        (0..count).map(|n| (ctx.key(&format!("large-{n}")), ctx.data(size))).collect();
    // What one small upload takes for good (connections, pools) is not growth.
    ctx.put(&ctx.key("small"), ctx.data(100_000)).await?;
    let before = peak_from_here()?;
    try_join_all(keys.iter().map(|(key, data)| ctx.put_to(&ctx.store, key, *data, false))).await?;
    let after_put = peak()?.saturating_sub(before);
    try_join_all(keys.iter().map(|(key, data)| ctx.expect(key, *data))).await?;
    let after_get = peak()?.saturating_sub(before);
    let mib = walport_engine::memory::mib;
    for (what, grown) in [("uploads", after_put), ("uploads and downloads", after_get)] {
        ensure!(
            grown <= bound,
            "{count} {what} of {} MiB made the process grow by {} MiB, the bound is {} MiB",
            mib(size),
            mib(grown),
            mib(bound)
        );
    }
    Ok(())
}

/// Resets the peak of this process, and gives what is resident now, in bytes.
fn peak_from_here() -> Checked<u64> {
    // 5 resets the peak (proc(5)). Where that is not allowed, the peak so far
    // hides growth, so the case would prove nothing.
    std::fs::write("/proc/self/clear_refs", "5")
        .map_err(|error| format!("the peak of memory cannot be reset: {error}"))?;
    status("VmRSS:")
}

fn peak() -> Checked<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> Checked<u64> {
    let text = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status: {error}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    match kib {
        Some(kib) => Ok(kib * 1024),
        None => fail!("/proc/self/status does not tell {field}"),
    }
}
