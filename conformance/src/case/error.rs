//! Errors: each kind and class provoked on purpose.

use std::time::Duration;

use futures_util::StreamExt;
use walport_engine::storage::{Class, Get, Kind, Put, StorageExt};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind, fail};
use crate::data::BLOCK;
use crate::fault::{Fault, Reply};

table! {
    "error.classified", "Missing, existing and impossible are told apart, are final, and name the object", [], classified;
    "error.reset", "A connection that is reset is transient, and the store works again at once", [Faults], reset;
    "error.broken-upload", "An upload whose connection breaks fails as one to try again, and leaves nothing", [Faults, AtomicPut], broken_upload;
    "error.throttled", "503 with Retry-After is Throttled and carries the wait", [Dialect], throttled;
    "error.internal", "500 is transient", [Dialect], internal;
    "error.denied", "403 is Denied and final, with a hint", [Dialect], denied;
    "error.expired", "Expired credentials are Unauthenticated and final, with a hint", [Dialect], expired;
}

fn names_the_object(error: &walport_engine::Error, name: &str) -> Checked {
    let text = error.to_string();
    ensure!(text.contains(name), "the error does not name the object {name}: {text}");
    ensure!(!text.contains('\n'), "the error has more than one line: {text:?}");
    Ok(())
}

async fn classified(ctx: &Context) -> Checked {
    let (absent, there) = (ctx.key("absent-object"), ctx.key("object-there"));
    ctx.put_text(&there, "here").await?;
    let mut provoked = vec![
        (
            expect_kind(
                ctx.store.get(&absent, Get::default()).await,
                Kind::NotFound,
                "get of nothing",
            )?,
            "absent-object",
        ),
        (
            expect_kind(ctx.store.head(&absent).await, Kind::NotFound, "head of nothing")?,
            "absent-object",
        ),
        (
            expect_kind(
                ctx.store.get(&there, Get::range(100..200)).await,
                Kind::Invalid,
                "get past the end",
            )?,
            "object-there",
        ),
    ];
    if ctx.limits().create_if_absent {
        let result = ctx.store.put_bytes(&there, "other", Put::create()).await;
        provoked.push((
            expect_kind(result, Kind::AlreadyExists, "create of what exists")?,
            "object-there",
        ));
    }
    if ctx.limits().server_side_copy {
        let result = ctx.store.copy(&absent, &ctx.key("target")).await;
        provoked.push((expect_kind(result, Kind::NotFound, "copy of nothing")?, "absent-object"));
    }
    for (error, name) in provoked {
        ensure!(
            error.class() == Class::Never,
            "{:?} is {:?}, trying again gives the same: {error}",
            error.kind(),
            error.class()
        );
        names_the_object(&error, name)?;
    }
    Ok(())
}

async fn reset(ctx: &Context) -> Checked {
    let (key, data) = (ctx.key("object"), ctx.data(1000));
    ctx.put(&key, data).await?;
    let (store, faults, _) = ctx.faulty().await?;
    faults.arm(Fault::ResetReply { after: 0 });
    let Err(error) = store.head(&key).await else {
        fail!("head worked ({} faults happened) although the connection was reset", faults.fired());
    };
    ensure!(
        error.class() == Class::Transient,
        "head over a connection that was reset is {:?}: {error}",
        error.class()
    );
    faults.arm(Fault::ResetReply { after: 0 });
    let mut listing = store.list(&ctx.prefix, walport_engine::storage::List::recursive());
    let mut failed = None;
    while let Some(entry) = listing.next().await {
        failed = entry.err();
    }
    drop(listing);
    let Some(error) = failed else {
        fail!("a listing over a connection that was reset ended without an error")
    };
    ensure!(
        error.class() == Class::Transient,
        "a listing over a connection that was reset is {:?}: {error}",
        error.class()
    );
    faults.disarm();
    ctx.expect_from(&store, &key, data).await.step("after the resets")
}

async fn broken_upload(ctx: &Context) -> Checked {
    for after in [1000, 5 * BLOCK, 13 * BLOCK] {
        let (store, faults, _) = ctx.faulty().await?;
        let key = ctx.key(&format!("broken-{after}"));
        let data = ctx.data(16 * BLOCK);
        faults.arm(Fault::ResetRequest { after });
        let result = store.put(&key, data.body(true, &ctx.progress), Put::default()).await;
        let Err(error) = result else {
            fail!(
                "put worked ({} faults happened) although the connection was reset",
                faults.fired()
            );
        };
        ensure!(
            matches!(error.class(), Class::Transient | Class::Ambiguous),
            "an upload that was reset is {:?}: {error}",
            error.class()
        );
        faults.disarm();
        ctx.expect_absent(&key, "after an upload was reset").await?;
        ctx.put_to(&store, &key, data, true).await.step("the second try")?;
        ctx.expect(&key, data).await?;
    }
    Ok(())
}

/// Every operation gets the same reply; gives the errors.
async fn all_operations(
    ctx: &Context,
    reply: impl Fn() -> Reply,
) -> Checked<Vec<(&'static str, walport_engine::Error)>> {
    let key = ctx.key("object-there");
    ctx.put_text(&key, "here").await?;
    let (store, faults, _) = ctx.faulty().await?;
    let mut errors = Vec::new();
    for op in ["get", "head", "put", "list", "delete"] {
        // As many replies as the store asks for: without retries that is one,
        // and a few where an operation takes several requests.
        faults.arm_times(Fault::Answer(reply()), 20);
        let result = match op {
            "get" => store.get(&key, Get::default()).await.map(drop),
            "head" => store.head(&key).await.map(drop),
            "put" => store.put_bytes(&ctx.key("put"), "text", Put::default()).await.map(drop),
            "list" => store
                .list_all(&ctx.prefix, walport_engine::storage::List::recursive())
                .await
                .map(drop),
            _ => store.delete_one(&key).await,
        };
        let used = faults.fired();
        faults.disarm();
        let Err(error) = result else {
            fail!("{op} worked although the server refused {used} requests")
        };
        ensure!(used <= 3, "{op} was tried {used} times: the suite is to run without retries");
        errors.push((op, error));
    }
    Ok(errors)
}

fn dialect(ctx: &Context) -> Checked<crate::fault::Dialect> {
    match super::dialect(&ctx.subject) {
        Some(dialect) => Ok(dialect),
        None => fail!("the subject has no dialect"),
    }
}

async fn throttled(ctx: &Context) -> Checked {
    let dialect = dialect(ctx)?;
    let wait = Duration::from_secs(7);
    for (op, error) in all_operations(ctx, || Reply::throttled(dialect, wait)).await? {
        ensure!(
            error.kind() == Kind::Throttled && error.class() == Class::Throttled,
            "{op} that was asked to slow down is {:?}, {:?}: {error}",
            error.kind(),
            error.class()
        );
        if let Some(told) = error.retry_after() {
            ensure!(
                told == wait,
                "{op}: the server asked to wait {wait:?}, the error says {told:?}"
            );
        }
    }
    Ok(())
}

async fn internal(ctx: &Context) -> Checked {
    let dialect = dialect(ctx)?;
    for (op, error) in all_operations(ctx, || Reply::internal(dialect)).await? {
        ensure!(
            matches!(error.class(), Class::Transient | Class::Ambiguous),
            "{op} answered with 500 is {:?}, {:?}: {error}",
            error.kind(),
            error.class()
        );
    }
    Ok(())
}

async fn denied(ctx: &Context) -> Checked {
    let dialect = dialect(ctx)?;
    for (op, error) in all_operations(ctx, || Reply::denied(dialect)).await? {
        // The answer to HEAD has no body, so it may not tell which refusal it is.
        let kinds: &[Kind] =
            if op == "head" { &[Kind::Denied, Kind::Unauthenticated] } else { &[Kind::Denied] };
        final_with_hint(op, &error, kinds)?;
    }
    Ok(())
}

async fn expired(ctx: &Context) -> Checked {
    let dialect = dialect(ctx)?;
    for (op, error) in all_operations(ctx, || Reply::expired(dialect)).await? {
        let kinds: &[Kind] = if op == "head" {
            &[Kind::Unauthenticated, Kind::Denied, Kind::Invalid]
        } else {
            &[Kind::Unauthenticated]
        };
        final_with_hint(op, &error, kinds)?;
    }
    Ok(())
}

fn final_with_hint(op: &str, error: &walport_engine::Error, kinds: &[Kind]) -> Checked {
    ensure!(
        kinds.contains(&error.kind()) && error.class() == Class::Never,
        "{op} that was refused is {:?}, {:?}: {error}",
        error.kind(),
        error.class()
    );
    ensure!(
        op == "head" || error.hint().is_some(),
        "{op} that was refused has no hint for the operator: {error}"
    );
    Ok(())
}
