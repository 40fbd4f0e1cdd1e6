//! The limits: consistent, stable, and true.

use walport_engine::storage::{Kind, Put};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind};

table! {
    "limits.sane", "The sizes fit together, and are the same each time the store is opened", [], sane;
    "limits.honest", "What is not declared is refused, not done half", [], honest;
}

async fn sane(ctx: &Context) -> Checked {
    let limits = ctx.limits();
    ensure!(limits.min_part <= limits.max_part, "min_part is above max_part: {limits:?}");
    ensure!(limits.delete_batch > 0, "delete_batch is 0");
    ensure!(limits.max_object > 0, "max_object is 0");
    ensure!(
        (1..=1024).contains(&limits.max_key),
        "max_key is {}, outside 1 to 1024",
        limits.max_key
    );
    if limits.max_parts > 0 {
        let largest = limits.max_part.saturating_mul(limits.max_parts);
        ensure!(
            largest >= limits.max_object,
            "{} parts do not hold an object of max_object bytes: {limits:?}",
            limits.max_parts
        );
        ensure!(
            limits.min_part <= 1 << 30,
            "min_part is {} bytes, which no budget holds",
            limits.min_part
        );
    }
    ensure!(
        !limits.atomic_replace || limits.atomic_put,
        "atomic_replace is declared without atomic_put: {limits:?}"
    );
    let again = ctx.reopen().await?;
    ensure!(
        again.limits() == limits,
        "opened again, the store declares {:?} instead of {limits:?}",
        again.limits()
    );
    Ok(())
}

/// The declared abilities have cases of their own; this one looks at the others.
async fn honest(ctx: &Context) -> Checked {
    let key = ctx.key("object");
    let first = ctx.data(1000);
    ctx.put(&key, first).await?;
    if !ctx.limits().create_if_absent {
        let result =
            ctx.store.put(&key, ctx.data(10).body(true, &ctx.progress), Put::create()).await;
        // It may know that the object is there; what it may not do is replace it.
        if let Err(error) = result {
            let known = matches!(error.kind(), Kind::Unsupported | Kind::AlreadyExists);
            ensure!(known, "create, which is not declared, gives {:?}: {error}", error.kind());
        }
        ctx.expect(&key, first)
            .await
            .step("after a create over an object, which is not declared")?;
    }
    if !ctx.limits().server_side_copy {
        let result = ctx.store.copy(&key, &ctx.key("copy")).await;
        expect_kind(result, Kind::Unsupported, "copy, which is not declared")?;
    }
    ctx.expect(&key, first).await
}
