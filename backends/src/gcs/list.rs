//! Listings: one page in memory at a time, whatever names the store shows.

use std::sync::Arc;

use chrono::DateTime;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::Method;
use serde_json::Value;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Entry, Key, List, Meta};

use super::client::{Call, Client, number};

/// The names of one page; a page is held in memory.
const PAGE: &str = "1000";
/// What is wanted of each object.
const FIELDS: &str = "nextPageToken,prefixes,items(name,size,updated,generation)";

/// The entries below `prefix`.
pub fn list(client: Arc<Client>, prefix: Key, how: List) -> BoxStream<'static, Result<Entry>> {
    let state = (client, prefix.clone(), how, Some(None::<String>));
    stream::try_unfold(state, |(client, prefix, how, next)| async move {
        let Some(at) = next else { return Ok(None) };
        let (entries, token) = page(&client, &prefix, &how, at.as_deref()).await?;
        // The same page again, for ever, is no answer.
        if token.is_some() && token == at {
            return Err(Error::new(Kind::Corrupt, "the store gives the same page again")
                .with_class(Class::Never));
        }
        Ok(Some((
            stream::iter(entries.into_iter().map(Ok)),
            (client, prefix, how, token.map(Some)),
        )))
    })
    .try_flatten()
    .map_err(move |error: Error| error.with_op("list").with_key(&prefix))
    .boxed()
}

async fn page(
    client: &Client,
    prefix: &Key,
    how: &List,
    at: Option<&str>,
) -> Result<(Vec<Entry>, Option<String>)> {
    let mut call = Call::new(Method::GET, client.objects())
        .query("prefix", client.full(prefix.as_str()))
        .query("maxResults", PAGE)
        .query("projection", "noAcl")
        .query("fields", FIELDS);
    if !how.recursive {
        call = call.query("delimiter", "/");
    }
    if let Some(after) = &how.after {
        call = call.query("startOffset", client.full(after.as_str()));
    }
    if let Some(token) = at {
        call = call.query("pageToken", token);
    }
    let document = match client.document(&call).await {
        Ok(document) => document,
        // A listing of nothing is empty; only a bucket can be missing.
        Err(trouble) if trouble.error.kind() == Kind::NotFound => {
            return Err(client.missing(trouble.error).await);
        }
        Err(trouble) => return Err(trouble.error),
    };
    let after = how.after.as_ref().map_or("", Key::as_str);
    let entries = parse(&document, &client.config.root, prefix.as_str(), after)?;
    let token = document["nextPageToken"].as_str().filter(|token| !token.is_empty());
    Ok((entries, token.map(str::to_owned)))
}

fn parse(document: &Value, root: &str, prefix: &str, after: &str) -> Result<Vec<Entry>> {
    let inside = |name: &str| {
        let key = name.strip_prefix(root).filter(|key| key.starts_with(prefix))?;
        // The object that stands for the folder itself is none of its content.
        (key > after && key != prefix).then(|| Key::foreign(key))
    };
    let list = |name: &str| document[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut entries = Vec::with_capacity(list("items").len() + list("prefixes").len());
    for item in list("items") {
        let name = item["name"].as_str().unwrap_or_default();
        if let Some(key) = inside(name) {
            entries.push(Entry::Object(key, meta(item)?));
        }
    }
    entries.extend(
        list("prefixes").iter().filter_map(|name| inside(name.as_str()?)).map(Entry::Prefix),
    );
    entries.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(entries)
}

/// Size, time and generation of an object, by its document.
pub fn meta(item: &Value) -> Result<Meta> {
    let time = item["updated"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match (number(&item["size"]), time) {
        (Some(size), Some(time)) => {
            let version = number(&item["generation"]).map(|generation| generation.to_string());
            Ok(Meta { size, modified: time.to_utc(), version })
        }
        _ => Err(Error::new(
            Kind::Corrupt,
            format!("the store shows {} without its size or time", item["name"]),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_page_is_in_order() {
        let item = |name: &str| serde_json::json!({"name": name, "size": "7", "updated": "2024-01-02T03:04:05.678Z", "generation": "12"});
        let document = serde_json::json!({"items": [item("root/p/a"), item("root/p/"), item("root/p/z"), item("else/x")], "prefixes": ["root/p/m/"]});
        let entries = parse(&document, "root/", "p/", "").unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.key().as_str()).collect();
        assert_eq!(names, ["p/a", "p/m/", "p/z"]);
        let Entry::Object(_, meta) = &entries[0] else { panic!("not an object") };
        assert_eq!((meta.size, meta.version.as_deref()), (7, Some("12")));
        assert_eq!(parse(&document, "root/", "p/", "p/m/").unwrap().len(), 1);
        let hollow = serde_json::json!({"items": [{"name": "a"}]});
        assert_eq!(parse(&hollow, "", "", "").unwrap_err().kind(), Kind::Corrupt);
        assert!(parse(&Value::Null, "", "", "").unwrap().is_empty());
    }
}
