//! Storage classes, tags and retention: accepted where they are declared.

use walport_engine::storage::Put;

use super::table;
use crate::context::{Checked, Context, Step, ensure};

table! {
    "attributes.accepted", "Tags are accepted on small, large and streamed objects, and the bytes arrive", [Attributes], accepted;
}

async fn accepted(ctx: &Context) -> Checked {
    let past_a_part = ctx.limits().min_part.min(16 << 20) + 1;
    for (size, known) in [(1000, true), (1000, false), (past_a_part, false)] {
        let (key, data) = (ctx.key(&format!("tagged-{size}-{known}")), ctx.data(size));
        let tags = vec![
            ("owner".to_owned(), "walport".to_owned()),
            ("note".to_owned(), "a b+c".to_owned()),
        ];
        let how = Put { tags, ..Put::default() };
        let stored = ctx
            .store
            .put(&key, data.body(known, &ctx.progress), how)
            .await
            .step("put with tags")?;
        ensure!(stored.size == size, "put with tags: {} bytes stored of {size}", stored.size);
        ctx.expect(&key, data).await?;
    }
    Ok(())
}
