//! Create-if-absent: exact, also under a race, and honest when the answer is lost.

use std::sync::Arc;

use futures_util::future::join_all;
use walport_engine::storage::{Class, Kind, Put, Store};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind, fail};
use crate::data::Data;
use crate::fault::Fault;

table! {
    "create.loser", "Creating what exists is AlreadyExists, and the stored bytes stay as they are", [CreateIfAbsent], loser;
    "create.race", "Of many concurrent creators exactly one wins, and the content is the winner's", [CreateIfAbsent], race;
    "create.again", "A name that was deleted can be created again", [CreateIfAbsent], again;
    "create.ambiguous", "A create whose answer is lost is not reported as one that did not happen", [CreateIfAbsent, Faults], ambiguous;
}

async fn loser(ctx: &Context) -> Checked {
    let key = ctx.key("created");
    let first = ctx.data(50_000);
    let stored = ctx
        .store
        .put(&key, first.body(true, &ctx.progress), Put::create())
        .await
        .step("the first create")?;
    ensure!(stored.size == first.size(), "the first create stored {} bytes", stored.size);
    let before = ctx.store.head(&key).await.step("head")?;
    // Also the same bytes again: whoever wants that compares, the store refuses.
    for (data, known) in [(ctx.data(10), true), (ctx.data(100_000), false), (first, true)] {
        let result = ctx.store.put(&key, data.body(known, &ctx.progress), Put::create()).await;
        expect_kind(
            result,
            Kind::AlreadyExists,
            format_args!("create of {} bytes over an object", data.size()),
        )?;
        ctx.expect(&key, first).await.step("after a create that lost")?;
    }
    let after = ctx.store.head(&key).await.step("head")?;
    ensure!(before == after, "a create that lost changed the object from {before:?} to {after:?}");
    Ok(())
}

/// One creator: 1 if it won, 0 if it was told that it lost.
///
/// A store may answer a collision with an error that says "try again" (S3's 409
/// ConditionalRequestConflict); then the creator does, as the engine would.
async fn creator(ctx: &Context, store: Store, round: usize, data: Data) -> Checked<bool> {
    let key = ctx.key(&format!("race-{round}"));
    for _ in 0..10 {
        match store.put(&key, data.body(true, &ctx.progress), Put::create()).await {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == Kind::AlreadyExists => return Ok(false),
            Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => {}
            Err(error) => fail!("a creator that lost got {:?}: {error}", error.kind()),
        }
    }
    fail!("a creator got no answer in ten tries")
}

async fn race(ctx: &Context) -> Checked {
    // Half of the creators use a store opened anew, as another process would.
    let other = ctx.reopen().await?;
    for round in 0..ctx.either(5, 20) {
        let bodies: Vec<Data> =
            (0..ctx.either(8, 16)).map(|writer| ctx.data(150_000 + writer)).collect();
        let creators = bodies.iter().enumerate().map(|(writer, data)| {
            let store = Arc::clone(if writer % 2 == 0 { &ctx.store } else { &other });
            creator(ctx, store, round, *data)
        });
        let mut winners = Vec::new();
        for (outcome, data) in join_all(creators).await.into_iter().zip(&bodies) {
            if outcome? {
                winners.push(*data);
            }
        }
        ensure!(
            winners.len() == 1,
            "{} of {} concurrent creators were told that they won",
            winners.len(),
            bodies.len()
        );
        ctx.expect(&ctx.key(&format!("race-{round}")), winners[0])
            .await
            .step("the content is not the winner's")?;
    }
    Ok(())
}

async fn again(ctx: &Context) -> Checked {
    let key = ctx.key("again");
    for round in 0..3 {
        let data = ctx.data(1000 + round);
        let created = ctx.store.put(&key, data.body(true, &ctx.progress), Put::create()).await;
        created.step(format_args!("create number {round}"))?;
        ctx.expect(&key, data).await?;
        for deleted in ctx.store.delete(std::slice::from_ref(&key)).await.step("delete")? {
            deleted.outcome.step("delete")?;
        }
    }
    Ok(())
}

async fn ambiguous(ctx: &Context) -> Checked {
    // Which of several answers is lost makes the difference for a store that
    // needs more than one request, so each is tried.
    for nth in 0..6 {
        let (store, faults, _) = ctx.faulty().await?;
        let key = ctx.key(&format!("lost-{nth}"));
        let data = ctx.data(1000);
        faults.arm(Fault::LoseReply { nth });
        let result = store.put(&key, data.body(true, &ctx.progress), Put::create()).await;
        let fired = faults.fired();
        faults.disarm();
        match result {
            Ok(_) => {
                ctx.expect(&key, data).await.step("after a create that was told to have worked")?;
                if fired == 0 {
                    ensure!(
                        nth > 0,
                        "the fault did not happen: does the store go through the proxy?"
                    );
                    return Ok(());
                }
            }
            Err(error) => {
                ensure!(
                    error.kind() != Kind::AlreadyExists,
                    "the creator lost against itself: {error}"
                );
                ensure!(
                    error.class() != Class::Never,
                    "a lost answer is reported as final: {error}"
                );
                let exists = ctx.store.head(&key).await.is_ok();
                ensure!(
                    !exists || error.class() == Class::Ambiguous,
                    "the object exists, and the error says {:?} instead of Ambiguous, so a retry would lose against itself: {error}",
                    error.class()
                );
                if exists {
                    ctx.expect(&key, data).await.step("after a create whose answer was lost")?;
                }
            }
        }
    }
    Ok(())
}
