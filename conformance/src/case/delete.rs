//! `delete`: gone is gone, batches of any size, and each failure named.

use std::collections::HashSet;
use std::time::Duration;

use walport_engine::storage::{Class, Key, Kind, List, Put};

use super::table;
use crate::context::{Checked, Context, Step, ensure, fail};

table! {
    "delete.gone", "After Ok, neither head, get nor a listing shows the object", [], gone;
    "delete.missing", "A missing object counts as removed", [], missing;
    "delete.batch", "More keys than one request carries, each answered in order, all gone", [], batch;
    "delete.exact", "Only what was named is removed", [], exact;
    "delete.retained", "A retained object is refused as Denied, or gone: never Ok and still there", [Retains], retained;
}

/// Deletes the keys; each must be answered, in order, with success.
async fn delete(ctx: &Context, keys: &[Key]) -> Checked {
    let deleted =
        ctx.store.delete(keys).await.step(format_args!("delete of {} keys", keys.len()))?;
    ensure!(
        deleted.len() == keys.len(),
        "delete of {} keys gives {} answers",
        keys.len(),
        deleted.len()
    );
    for (deleted, key) in deleted.into_iter().zip(keys) {
        ensure!(deleted.key == *key, "delete answers for {} where {key} was asked", deleted.key);
        deleted.outcome.step(format_args!("delete of {key}"))?;
    }
    Ok(())
}

async fn gone(ctx: &Context) -> Checked {
    for name in ["plain", "folder/object", "with space +%25&é"] {
        let key = ctx.key(name);
        ctx.put(&key, ctx.data(1000)).await?;
        delete(ctx, std::slice::from_ref(&key)).await?;
        ctx.expect_absent(&key, "after delete returned Ok").await?;
    }
    // An emptied folder must not show either.
    let left = ctx.list_how(&ctx.prefix, List::default()).await?;
    ensure!(left.is_empty(), "after everything was deleted, a listing shows {left:?}");
    delete(ctx, &[]).await
}

async fn missing(ctx: &Context) -> Checked {
    let (there, absent) = (ctx.key("there"), ctx.key("absent"));
    delete(ctx, std::slice::from_ref(&absent)).await?;
    delete(ctx, &[ctx.key("no/such/folder/object")]).await?;
    ctx.put(&there, ctx.data(10)).await?;
    delete(ctx, &[absent, there.clone()]).await?;
    delete(ctx, std::slice::from_ref(&there)).await.step("deleting twice")?;
    ctx.expect_absent(&there, "after delete returned Ok").await
}

async fn batch(ctx: &Context) -> Checked {
    // The keys of a quick run mostly do not exist, which saves a thousand puts;
    // those that do lie on both sides of every batch border.
    let limit = ctx.limits().delete_batch.clamp(1, 2000);
    let count = (2 * limit + 3).max(50);
    let keys: Vec<Key> = (0..count).map(|n| ctx.key(&format!("many/{n:06}"))).collect();
    let stored: Vec<Key> = keys
        .iter()
        .enumerate()
        .filter(|(n, _)| ctx.full() || n % limit <= 1 || n % limit == limit - 1 || n % 97 == 0)
        .map(|(_, key)| key.clone())
        .collect();
    ctx.put_many(&stored).await?;
    let mut shuffled = keys.clone();
    ctx.shuffle(&mut shuffled);
    // Order of the answers is that of the question, whatever it is.
    let asked = if ctx.full() { &shuffled } else { &keys };
    delete(ctx, asked).await?;
    let left = ctx.list(&ctx.prefix).await.step("list")?;
    ensure!(
        left.is_empty(),
        "{} of {} objects are still listed after delete returned Ok",
        left.len(),
        stored.len()
    );
    Ok(())
}

async fn exact(ctx: &Context) -> Checked {
    let names = ["a", "ab", "b/c", "b/cd", "b.c", "B/C", "z/a"];
    let keys: Vec<Key> = names.iter().map(|name| ctx.key(name)).collect();
    ctx.put_many(&keys).await?;
    delete(ctx, &[ctx.key("a"), ctx.key("b/c"), ctx.key("z")]).await?;
    let left: HashSet<Key> = ctx.list(&ctx.prefix).await.step("list")?.into_iter().collect();
    let expected: HashSet<Key> =
        ["ab", "b/cd", "b.c", "B/C", "z/a"].iter().map(|name| ctx.key(name)).collect();
    ensure!(
        left == expected,
        "after deleting a, b/c and z (which is no object), {left:?} are left"
    );
    Ok(())
}

async fn retained(ctx: &Context) -> Checked {
    let key = ctx.key("retained");
    let data = ctx.data(1000);
    let hold = Duration::from_secs(5);
    let how = Put { retention: Some(hold), ..Put::default() };
    ctx.store
        .put(&key, data.body(true, &ctx.progress), how)
        .await
        .step("put with a retention of 5 s")?;
    let deleted =
        ctx.store.delete(std::slice::from_ref(&key)).await.step("delete of a retained object")?;
    let Some(outcome) = deleted.into_iter().next().map(|deleted| deleted.outcome) else {
        fail!("delete of a retained object gives no answer");
    };
    let refused = outcome.is_err();
    let checked = match outcome {
        // A delete marker hides the object, and its bytes stay retained.
        Ok(()) => ctx.expect_absent(&key, "after delete of a retained object returned Ok").await,
        Err(error) if error.kind() != Kind::Denied || error.class() != Class::Never => {
            fail!(
                "delete of a retained object gives {:?}, {:?}: {error}",
                error.kind(),
                error.class()
            )
        }
        Err(_) => ctx.expect(&key, data).await.step("after the delete was refused"),
    };
    if refused {
        tokio::time::sleep(hold).await;
        ctx.progress.bump();
    }
    checked
}
