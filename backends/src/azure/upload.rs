//! Uploads: one request for what fits into a block, blocks in parallel for more.
//!
//! Blocks that were stored and not committed are seen by nobody, and the store
//! removes them within a week; there is no request that removes them sooner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use http::Method;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Body, Key, Put, Stored};

use super::client::{Call, Client, version};
use super::errors::{already, is_taken};
use crate::http::parts::{self, Part, Plan, Sent};
use crate::http::trouble::Trouble;
use crate::http::{Chunks, xml};

/// Stores `body` under `key`.
pub async fn put(client: &Arc<Client>, key: &Key, body: Body, how: Put) -> Result<Stored> {
    let plan = Plan::new(&client.config.bounds, body.size(), &how)?;
    let upload = Upload {
        client: Arc::clone(client),
        name: client.full(key.as_str()).into(),
        own: fastrand::u64(..),
    };
    let sent = parts::run(body, plan, |part| upload.clone().block(part)).await?;
    match sent {
        Sent::Whole(chunks) => upload.whole(chunks, &how).await,
        Sent::Parts { count, size } => upload.commit(count, size, &how).await,
    }
}

/// One object on its way.
#[derive(Clone)]
struct Upload {
    client: Arc<Client>,
    name: Arc<str>,
    /// Marks our blocks among those of others.
    own: u64,
}

impl Upload {
    /// All blocks of a blob must have ids of one length, those that others left
    /// behind included: 64 bytes is what Azure's own tools and WAL-G use.
    fn id(&self, number: u64) -> String {
        let mut id = [b'-'; 64];
        let text = format!("walport-{:016x}-{number:08}", self.own);
        id[..text.len()].copy_from_slice(text.as_bytes());
        STANDARD.encode(id)
    }

    async fn block(self, part: Part) -> Result<()> {
        let call = Call::new(Method::PUT, Some(&self.name))
            .query("comp", "block")
            .query("blockid", self.id(part.number))
            .body(part.chunks);
        let sent = self.client.tries.run(true, || self.client.document(&call)).await;
        sent.map(drop)
            .map_err(|trouble| trouble.error.context(format!("block {}", part.number + 1)))
    }

    /// Stores everything with one request.
    async fn whole(self, chunks: Chunks, how: &Put) -> Result<Stored> {
        let size = chunks.size();
        let call = Call::new(Method::PUT, Some(&self.name))
            .header("x-ms-blob-type", "BlockBlob")?
            .body(chunks);
        let call = self.attributes(call, how)?;
        match self.client.tries.run(!how.if_absent, || self.client.document(&call)).await {
            Ok((headers, _)) => Ok(Stored { size, version: version(&headers) }),
            Err(trouble) => Err(creation(trouble, how)),
        }
    }

    /// Makes the blocks an object.
    async fn commit(self, count: u64, size: u64, how: &Put) -> Result<Stored> {
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for number in 0..count {
            list.push_str(&format!("<Latest>{}</Latest>", self.id(number)));
        }
        list.push_str("</BlockList>");
        let call = Call::new(Method::PUT, Some(&self.name))
            .query("comp", "blocklist")
            .body(Chunks::from(list));
        let call = self.attributes(call, how)?;
        let unsure = AtomicBool::new(false);
        let done = self.client.tries.run(true, || async {
            self.client.document(&call).await.inspect_err(|trouble| {
                unsure.fetch_or(trouble.ambiguous, Ordering::Relaxed);
            })
        });
        match done.await {
            Ok((headers, _)) => Ok(Stored { size, version: version(&headers) }),
            // The first try may have done it, and the second met the result.
            Err(trouble) if unsure.load(Ordering::Relaxed) => match self.committed().await {
                Some(version) => Ok(Stored { size, version }),
                None => Err(creation(trouble, how)),
            },
            // Who is faster takes our blocks away, and the store says only that.
            Err(trouble)
                if how.if_absent && trouble.code == "InvalidBlockList" && self.exists().await =>
            {
                Err(already())
            }
            Err(trouble) => Err(creation(trouble, how)),
        }
    }

    /// The version of the object, if it is made of our blocks.
    async fn committed(&self) -> Option<Option<String>> {
        let call = Call::new(Method::GET, Some(&self.name))
            .query("comp", "blocklist")
            .query("blocklisttype", "committed");
        let (headers, body) = self.client.document(&call).await.ok()?;
        (xml::find(&body, "Name")? == self.id(0)).then(|| version(&headers))
    }

    async fn exists(&self) -> bool {
        self.client.send(&Call::new(Method::HEAD, Some(&self.name))).await.is_ok()
    }

    /// The headers that say how the object is kept, and whether it may replace one.
    fn attributes<'c>(&self, mut call: Call<'c>, how: &Put) -> Result<Call<'c>> {
        if how.if_absent {
            call = call.header("if-none-match", "*")?;
        }
        if let Some(tier) = how.storage_class.as_ref().or(self.client.config.tier.as_ref()) {
            call = call.header("x-ms-access-tier", tier)?;
        }
        if !how.tags.is_empty() {
            let tags = crate::http::uri::pairs(
                how.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            );
            call = call.header("x-ms-tags", &tags)?;
        }
        if let Some(time) = how.retention {
            let until = (Utc::now() + time).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            call = call
                .header("x-ms-immutability-policy-until-date", &until)?
                .header("x-ms-immutability-policy-mode", "unlocked")?;
        }
        Ok(call)
    }
}

/// What a failed creation means.
fn creation(trouble: Trouble, how: &Put) -> Error {
    if how.if_absent && is_taken(&trouble) {
        return already();
    }
    // Without a condition a conflict is another writer at the same moment.
    if trouble.code == "BlobAlreadyExists" {
        return Error::new(Kind::Unavailable, trouble.error.message()).with_class(Class::Transient);
    }
    if how.if_absent && trouble.ambiguous {
        trouble.error.with_class(Class::Ambiguous)
    } else {
        trouble.error
    }
}
