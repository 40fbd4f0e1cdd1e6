//! Copies inside the store: one request up to 5 GiB, parts above.

use std::sync::Arc;

use http::Method;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::storage::{Key, Meta};

use super::client::{Call, Client};
use super::errors::Trouble;
use super::settings::{Checksum, MAX_PARTS};
use super::sign::encode_path;
use super::upload::{Part, Upload};
use crate::http::xml;

/// Copies the object whose meta data is `source` and says what is there then.
pub async fn copy(client: &Arc<Client>, from: &Key, to: &Key, source: &Meta) -> Result<()> {
    let target = client.full(to.as_str());
    let origin = encode_path(&format!("/{}/{}", client.config.bucket, client.full(from.as_str())));
    if source.size <= client.config.copy_limit {
        let call =
            Upload::for_copy(client, &target).attributes(Call::new(Method::PUT, Some(&target)))?;
        let call = from_source(client, call, &origin, source)?;
        client.retry(true, || client.document(&call)).await.map_err(|trouble| trouble.error)?;
        return Ok(());
    }
    let mut upload = Upload::for_copy(client, &target);
    let mut session = upload.begin(Checksum::None).await?;
    let part = client.config.copy_part.max(source.size.div_ceil(MAX_PARTS));
    let count = source.size.div_ceil(part);
    for number in 1..=count {
        let first = (number - 1) * part;
        let last = source.size.min(first + part) - 1;
        let (text, range) = (number.to_string(), format!("bytes={first}-{last}"));
        let call = Call::new(Method::PUT, Some(&target))
            .query("partNumber", &text)
            .query("uploadId", session.id());
        let call = client.with_customer_key(call)?.header("x-amz-copy-source-range", &range)?;
        let call = from_source(client, call, &origin, source)?;
        match client.retry(true, || client.document(&call)).await.and_then(|(_, body)| etag(&body))
        {
            Ok(etag) => upload.parts.push(Part {
                number: number as usize,
                size: last + 1 - first,
                etag,
                crc: None,
            }),
            Err(trouble) => {
                session.abort().await;
                return Err(trouble.error);
            }
        }
    }
    upload.finish(session).await.map(drop)
}

fn etag(body: &[u8]) -> Result<String, Trouble> {
    xml::find(body, "ETag").filter(|etag| !etag.is_empty()).ok_or_else(|| {
        Trouble::before(Error::new(Kind::Corrupt, "the store copied a part without an ETag"))
    })
}

/// The headers that name the source, pinned to what it is now.
fn from_source<'a>(
    client: &Client,
    call: Call<'a>,
    origin: &str,
    source: &Meta,
) -> Result<Call<'a>> {
    let mut call = call.header("x-amz-copy-source", origin)?;
    if let Some(version) = &source.version {
        call = call.header("x-amz-copy-source-if-match", &format!("\"{version}\""))?;
    }
    let Some(key) = &client.config.customer_key else { return Ok(call) };
    call.header("x-amz-copy-source-server-side-encryption-customer-algorithm", &key.algorithm)?
        .header("x-amz-copy-source-server-side-encryption-customer-key", &key.key)?
        .header("x-amz-copy-source-server-side-encryption-customer-key-md5", &key.md5)
}
