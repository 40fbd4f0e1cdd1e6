//! Copies inside the store: the store reads the source itself, whatever its
//! size. What is not done at once is waited for.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Key, Meta};

use super::client::{Call, Client};

/// The wait between two looks at a copy; it doubles up to the second.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Copies the object whose meta data is `source`.
pub async fn copy(client: &Arc<Client>, from: &Key, to: &Key, source: &Meta) -> Result<()> {
    let target = client.full(to.as_str());
    let origin = client.address_of(&client.full(from.as_str()));
    let mut call = Call::new(Method::PUT, Some(&target)).header("x-ms-copy-source", &origin)?;
    if let Some(version) = &source.version {
        call = call.header("x-ms-source-if-match", &format!("\"{version}\""))?;
    }
    let (headers, _) = client.tries.run(true, || client.document(&call)).await?;
    let status = header(&headers, "x-ms-copy-status");
    let Some(id) = header(&headers, "x-ms-copy-id").filter(|_| status != Some("success")) else {
        return Ok(());
    };
    let mut pending =
        Pending { client: Arc::clone(client), target, id: id.to_owned(), done: false };
    let mut wait = FIRST;
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
        let call = Call::new(Method::HEAD, Some(&pending.target));
        let response = client.tries.run(true, || client.send(&call)).await?;
        let headers = response.headers();
        if header(headers, "x-ms-copy-id") != Some(&pending.id) {
            pending.done = true;
            return Err(Error::new(
                Kind::Changed,
                "somebody else wrote the copy's target meanwhile",
            ));
        }
        match header(headers, "x-ms-copy-status") {
            Some("pending") => {}
            Some("success") => {
                pending.done = true;
                return Ok(());
            }
            other => {
                pending.done = true;
                let why = header(headers, "x-ms-copy-status-description")
                    .or(other)
                    .unwrap_or("no reason given");
                return Err(Error::new(
                    Kind::Unavailable,
                    format!("the store gave up the copy: {why}"),
                )
                .with_class(Class::Transient));
            }
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A copy that goes on inside the store. Unless it is done, dropping it ends it.
struct Pending {
    client: Arc<Client>,
    target: String,
    id: String,
    done: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| !self.done)
        else {
            return;
        };
        let (client, target, id) = (
            Arc::clone(&self.client),
            std::mem::take(&mut self.target),
            std::mem::take(&mut self.id),
        );
        runtime.spawn(async move {
            let call =
                Call::new(Method::PUT, Some(&target)).query("comp", "copy").query("copyid", id);
            let Ok(call) = call.header("x-ms-copy-action", "abort") else { return };
            if let Err(trouble) = client.document(&call).await {
                log::warn!("azure: the copy to {target} could not be ended: {}", trouble.error);
            }
        });
    }
}
