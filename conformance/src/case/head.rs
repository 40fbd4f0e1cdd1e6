//! `head`: the same as a listing says, and nothing for what is not an object.

use walport_engine::storage::{Entry, Get, Kind, List, StorageExt};

use super::table;
use crate::context::{Checked, Context, Step, ensure, expect_kind, fail};

table! {
    "head.matches-list", "Size, time and version equal what a listing and get say", [], matches_list;
    "head.missing", "A missing object is NotFound, and a prefix too", [], missing;
}

async fn matches_list(ctx: &Context) -> Checked {
    for size in [0, 1, 100_000] {
        ctx.put(&ctx.key(&format!("object-{size}")), ctx.data(size)).await?;
    }
    let listed = ctx.store.list_all(&ctx.prefix, List::recursive()).await.step("list")?;
    ensure!(listed.len() == 3, "3 objects were stored, {} are listed", listed.len());
    for entry in listed {
        let Entry::Object(key, listed) = entry else { fail!("a recursive listing shows a prefix") };
        let head = ctx.store.head(&key).await.step("head")?;
        let open = ctx.store.get(&key, Get::default()).await.step("get")?.meta;
        for (what, meta) in [("head", &head), ("get", &open)] {
            ensure!(
                meta.size == listed.size,
                "{key}: {what} gives {} bytes, list {}",
                meta.size,
                listed.size
            );
            // HTTP headers carry whole seconds, listings often more.
            let apart = meta.modified.timestamp() - listed.modified.timestamp();
            ensure!(apart == 0, "{key}: {what} gives {}, list {}", meta.modified, listed.modified);
            if let (Some(one), Some(other)) = (&meta.version, &listed.version) {
                ensure!(one == other, "{key}: {what} gives version {one}, list {other}");
            }
        }
    }
    Ok(())
}

async fn missing(ctx: &Context) -> Checked {
    ctx.put_text(&ctx.key("folder/object"), "here").await?;
    for name in ["nothing", "folder", "folder/", "folder/nothing", "folder/object/below", "fold"] {
        expect_kind(
            ctx.store.head(&ctx.key(name)).await,
            Kind::NotFound,
            format_args!("head of {name}"),
        )?;
    }
    Ok(())
}
