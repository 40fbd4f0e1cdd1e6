//! Copies inside the store. A large one is done in steps, each a request.

use std::sync::Arc;

use http::Method;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Key, Meta, Stored};

use super::client::{Call, Client, number};
use super::list;
use crate::http::uri::encode;

/// Copies the object whose meta data is `source`.
pub async fn copy(client: &Arc<Client>, from: &Key, to: &Key, source: &Meta) -> Result<Stored> {
    let config = &client.config;
    let address = format!(
        "{}/rewriteTo/b/{}/o/{}",
        client.object(&client.full(from.as_str())),
        encode(&config.bucket),
        encode(&client.full(to.as_str()))
    );
    let mut call = client.with_customer_key(Call::new(Method::POST, address))?;
    if let Some(key) = &config.customer_key {
        call = call
            .header("x-goog-copy-source-encryption-algorithm", "AES256")?
            .header("x-goog-copy-source-encryption-key", &key.key)?
            .header("x-goog-copy-source-encryption-key-sha256", &key.sha256)?;
    }
    if let Some(generation) = &source.version {
        call = call.query("ifSourceGenerationMatch", generation.clone());
    }
    if let Some(key) = &config.kms_key {
        call = call.query("destinationKmsKeyName", key.clone());
    }
    let class = config.storage_class.as_ref();
    let resource = class
        .map_or_else(|| serde_json::json!({}), |class| serde_json::json!({"storageClass": class}));
    let call = call.json(&resource);
    let (mut token, mut before) = (None::<String>, None);
    loop {
        let step = match &token {
            Some(token) => call.clone().query("rewriteToken", token.clone()),
            None => call.clone(),
        };
        let answer = client.tries.run(true, || client.document(&step)).await?;
        if answer["done"].as_bool() == Some(true) {
            let meta = list::meta(&answer["resource"])?;
            return Ok(Stored { size: meta.size, version: meta.version });
        }
        let written = number(&answer["totalBytesRewritten"]);
        if answer["rewriteToken"].as_str().is_none_or(str::is_empty)
            || (before.is_some() && before == Some(written))
        {
            return Err(Error::new(Kind::Unavailable, "the copy does not go on")
                .with_class(Class::Transient));
        }
        before = Some(written);
        token = answer["rewriteToken"].as_str().map(str::to_owned);
    }
}
