//! `copy`: byte for byte inside the store, or plainly not supported.

use walport_engine::memory::CHUNK;
use walport_engine::storage::Kind;

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind};

table! {
    "copy.bytes", "A copy has the same bytes and size, replaces what was there, and leaves its source", [ServerSideCopy], bytes;
    "copy.missing", "A copy of a missing object is NotFound and makes nothing", [ServerSideCopy], missing;
    "copy.declared", "copy works where it is declared, and is Unsupported where it is not", [], declared;
}

async fn bytes(ctx: &Context) -> Checked {
    let past_a_part = ctx.limits().min_part.min(16 << 20) + 1;
    for size in [0, 1, CHUNK as u64 + 1, past_a_part] {
        let (from, to) =
            (ctx.key(&format!("from a+b%41 é {size}")), ctx.key(&format!("to/{size}")));
        let data = ctx.data(size);
        ctx.put(&from, data).await?;
        for round in ["onto nothing", "onto an object"] {
            let copied = ctx
                .store
                .copy(&from, &to)
                .await
                .step(format_args!("copy of {size} bytes {round}"))?;
            ensure!(
                copied.size == size,
                "copy of {size} bytes {round}: the store says {}",
                copied.size
            );
            ctx.expect(&to, data).await.step(round)?;
            ctx.expect(&from, data).await.step("the source of the copy")?;
            ctx.put(&to, ctx.data(size / 2 + 10)).await?;
        }
    }
    Ok(())
}

async fn missing(ctx: &Context) -> Checked {
    let to = ctx.key("to");
    expect_kind(
        ctx.store.copy(&ctx.key("nothing"), &to).await,
        Kind::NotFound,
        "copy of a missing object",
    )?;
    ctx.expect_absent(&to, "after a copy of nothing").await
}

async fn declared(ctx: &Context) -> Checked {
    let (from, to) = (ctx.key("from"), ctx.key("to"));
    let data = ctx.data(1000);
    ctx.put(&from, data).await?;
    let result = ctx.store.copy(&from, &to).await;
    if ctx.limits().server_side_copy {
        result.step("copy, which is declared")?;
        return ctx.expect(&to, data).await;
    }
    expect_kind(result, Kind::Unsupported, "copy, which is not declared")?;
    ctx.expect_absent(&to, "after a copy that is not supported").await
}
