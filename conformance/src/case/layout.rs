//! The WAL-G layout through a store: the very names, the very bytes.

use std::collections::BTreeSet;

use walport_engine::storage::{Entry, Key, List, StorageExt};

use super::table;
use crate::context::{Checked, Context, Step, ensure};
use crate::golden::TREE;

table! {
    "layout.roundtrip", "A tree that WAL-G wrote comes back name for name and byte for byte", [], roundtrip;
    "layout.levels", "The folders of that tree list one level at a time, as the engine walks them", [], levels;
}

/// Puts the golden tree under the prefix of the case, in another order.
async fn plant(ctx: &Context) -> Checked {
    let mut objects: Vec<_> = TREE.to_vec();
    ctx.shuffle(&mut objects);
    for (name, bytes) in objects {
        let how = walport_engine::storage::Put::default();
        let stored = ctx
            .store
            .put_bytes(&ctx.key(name), bytes, how)
            .await
            .step(format_args!("put of {name}"))?;
        ensure!(
            stored.size == bytes.len() as u64,
            "{name}: the store says it stored {} bytes",
            stored.size
        );
    }
    Ok(())
}

async fn roundtrip(ctx: &Context) -> Checked {
    plant(ctx).await?;
    let again = ctx.reopen().await?;
    for (name, bytes) in TREE {
        let back =
            again.get_bytes(&ctx.key(name), 1 << 20).await.step(format_args!("get of {name}"))?;
        ensure!(back == *bytes, "{name} came back with other bytes");
    }
    let listed: BTreeSet<Key> = ctx.list(&ctx.prefix).await.step("list")?.into_iter().collect();
    let stored: BTreeSet<Key> = TREE.iter().map(|(name, _)| ctx.key(name)).collect();
    let odd: Vec<_> = listed.symmetric_difference(&stored).collect();
    ensure!(
        odd.is_empty(),
        "these names differ between what was stored and what is listed: {odd:?}"
    );
    Ok(())
}

async fn levels(ctx: &Context) -> Checked {
    plant(ctx).await?;
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let expected: BTreeSet<String> = TREE
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(&folder))
            .map(|rest| {
                rest.split_once('/')
                    .map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/"))
            })
            .collect();
        let at = if folder.is_empty() { ctx.prefix.clone() } else { ctx.key(&folder) };
        let mut seen = BTreeSet::new();
        for entry in ctx
            .store
            .list_all(&at, List::default())
            .await
            .step(format_args!("list of {folder:?}"))?
        {
            let name = entry.key().strip_prefix(&at).unwrap_or_default().to_owned();
            if let Entry::Prefix(_) = entry {
                folders.push(format!("{folder}{name}"));
            }
            ensure!(seen.insert(name.clone()), "{name} is listed twice in {folder:?}");
        }
        ensure!(seen == expected, "{folder:?} lists {seen:?} instead of {expected:?}");
    }
    Ok(())
}
