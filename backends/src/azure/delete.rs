//! Deleting: one request for each blob, several at a time, each failure named.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use http::Method;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::storage::{Deleted, Key};

use super::client::{Call, Client};

/// The requests that are under way at a time.
const AT_ONCE: usize = 16;

/// Removes `keys`, with their snapshots; the answer has one item for each, in
/// the same order.
pub async fn delete(client: &Arc<Client>, keys: &[Key]) -> Result<Vec<Deleted>> {
    let tasks = keys.iter().cloned().map(|key| {
        let client = Arc::clone(client);
        async move {
            let outcome =
                one(&client, &key).await.map_err(|error| error.with_op("delete").with_key(&key));
            Deleted { key, outcome }
        }
    });
    Ok(stream::iter(tasks).buffered(AT_ONCE).collect().await)
}

async fn one(client: &Client, key: &Key) -> Result<()> {
    if key.is_prefix() {
        return Err(Error::new(Kind::Invalid, "a prefix is no object"));
    }
    let name = client.full(key.as_str());
    let call = Call::new(Method::DELETE, Some(&name)).header("x-ms-delete-snapshots", "include")?;
    match client.tries.run(true, || client.document(&call)).await {
        Ok(_) => Ok(()),
        Err(trouble) if trouble.error.kind() == Kind::NotFound => Ok(()),
        Err(trouble) => Err(trouble.error),
    }
}
