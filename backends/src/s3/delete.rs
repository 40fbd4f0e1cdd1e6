//! Deleting: in batches, each failure named.

use std::collections::HashMap;

use http::{Method, StatusCode};
use walport_engine::error::{Error, Kind, Result};
use walport_engine::storage::{Deleted, Key};

use super::client::{Call, Client, xml_call};
use super::errors::{Trouble, of_code};
use super::settings::Checksum;
use crate::http::xml;

/// One object, or one version of it.
type Doomed = (Key, Option<String>);

/// Removes `keys`; the answer has one item for each, in the same order.
pub async fn delete(client: &Client, keys: &[Key]) -> Result<Vec<Deleted>> {
    let mut deleted = Vec::with_capacity(keys.len());
    for batch in keys.chunks(client.config.delete_batch) {
        let mut failed: HashMap<Key, Error> = HashMap::new();
        let mut doomed: Vec<Doomed> = Vec::new();
        for key in batch {
            if !client.config.delete_versions {
                doomed.push((key.clone(), None));
                continue;
            }
            match versions(client, key).await {
                Ok(list) => doomed.extend(list.into_iter().map(|id| (key.clone(), Some(id)))),
                Err(error) => drop(failed.insert(key.clone(), error)),
            }
        }
        for part in doomed.chunks(1000) {
            remove(client, part, &mut failed).await;
        }
        deleted.extend(batch.iter().map(|key| {
            let outcome = failed
                .remove(key)
                .map_or(Ok(()), |error| Err(error.with_op("delete").with_key(key)));
            Deleted { key: key.clone(), outcome }
        }));
    }
    Ok(deleted)
}

async fn remove(client: &Client, doomed: &[Doomed], failed: &mut HashMap<Key, Error>) {
    let trouble = match doomed {
        [] => return,
        [one] => return single(client, one, failed).await,
        _ => match bulk(client, doomed, failed).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        },
    };
    // Some stores have no bulk delete.
    if matches!(trouble.status, Some(StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED))
    {
        for one in doomed {
            single(client, one, failed).await;
        }
        return;
    }
    for (key, _) in doomed {
        let error = &trouble.error;
        let mut each = Error::new(error.kind(), error.to_string()).with_class(error.class());
        if let Some(hint) = error.hint() {
            each = each.with_hint(hint);
        }
        if let Some(wait) = error.retry_after() {
            each = each.with_retry_after(wait);
        }
        failed.insert(key.clone(), each);
    }
}

async fn single(client: &Client, (key, version): &Doomed, failed: &mut HashMap<Key, Error>) {
    let name = client.full(key.as_str());
    let mut call = Call::new(Method::DELETE, Some(&name));
    if let Some(version) = version {
        call = call.query("versionId", version);
    }
    match client.send(&call).await {
        Ok(_) => {}
        Err(trouble) if trouble.error.kind() == Kind::NotFound => {}
        Err(trouble) => drop(failed.insert(key.clone(), trouble.error)),
    }
}

async fn bulk(
    client: &Client,
    doomed: &[Doomed],
    failed: &mut HashMap<Key, Error>,
) -> Result<(), Trouble> {
    let mut text = String::from(
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>",
    );
    for (key, version) in doomed {
        text.push_str("<Object><Key>");
        text.push_str(&xml::escape(&client.full(key.as_str())));
        text.push_str("</Key>");
        if let Some(version) = version {
            text.push_str(&format!("<VersionId>{}</VersionId>", xml::escape(version)));
        }
        text.push_str("</Object>");
    }
    text.push_str("</Delete>");
    // This request must have an MD5 whatever the others have.
    let call = xml_call(Call::new(Method::POST, None).query("delete", ""), text, Checksum::Md5);
    let (_, body) = client.document(&call).await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let (mut name, mut code, mut said) = (String::new(), String::new(), String::new());
    let read = xml::walk(&body, |path, text| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [_, "Error", "Key"] => name = text,
            [_, "Error", "Code"] => code = text,
            [_, "Error", "Message"] => said = text,
            [_, "Error"] => {
                let key = Key::foreign(name.strip_prefix(&client.config.root).unwrap_or(&name));
                let error = of_code(&std::mem::take(&mut code), &std::mem::take(&mut said));
                if error.kind() != Kind::NotFound {
                    failed.insert(key, error);
                }
            }
            _ => {}
        }
        Ok(())
    });
    read.map_err(|error| Trouble::unanswered(error, true))
}

/// The ids of all versions of an object, delete markers included.
async fn versions(client: &Client, key: &Key) -> Result<Vec<String>> {
    let name = client.full(key.as_str());
    let mut ids = Vec::new();
    let mut at: Option<(String, String)> = None;
    loop {
        let mut call = Call::new(Method::GET, None).query("versions", "").query("prefix", &name);
        if let Some((key, version)) = &at {
            call = call.query("key-marker", key).query("version-id-marker", version);
        }
        let (_, body) = client.document(&call).await.map_err(|trouble| trouble.error)?;
        let (mut found, mut id) = (String::new(), String::new());
        let (mut truncated, mut next_key, mut next_id) = (false, String::new(), String::new());
        xml::walk(&body, |path, text| {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            match names.as_slice() {
                [_, "Version" | "DeleteMarker", "Key"] => found = text,
                [_, "Version" | "DeleteMarker", "VersionId"] => id = text,
                [_, "Version" | "DeleteMarker"] if found == name => {
                    ids.push(std::mem::take(&mut id));
                }
                [_, "IsTruncated"] => truncated = text.trim() == "true",
                [_, "NextKeyMarker"] => next_key = text,
                [_, "NextVersionIdMarker"] => next_id = text,
                _ => {}
            }
            Ok(())
        })?;
        // Names come in order: past this one there are only longer ones.
        if !truncated || next_key != name || at.as_ref().is_some_and(|(_, id)| *id == next_id) {
            return Ok(ids);
        }
        at = Some((next_key, next_id));
    }
}
