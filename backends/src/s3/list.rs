//! Listings: one page in memory at a time, whatever names the store shows.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::Method;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Entry, Key, List, Meta};

use super::client::{Call, Client, unquoted};
use crate::http::xml;

/// One answer of the store.
#[derive(Debug, Default)]
struct Page {
    entries: Vec<Entry>,
    truncated: bool,
    /// The token or the marker of the next page.
    next: Option<String>,
    /// The last name of this page, as the store wrote it.
    last: Option<String>,
}

/// The entries below `prefix`.
pub fn list(client: Arc<Client>, prefix: Key, how: List) -> BoxStream<'static, Result<Entry>> {
    let state = (client, prefix.clone(), how, Some(None::<String>));
    stream::try_unfold(state, |(client, prefix, how, next)| async move {
        let Some(at) = next else { return Ok(None) };
        let page = page(&client, &prefix, &how, at.as_deref()).await?;
        let next = match (page.truncated, page.next.or(page.last)) {
            (false, _) => None,
            // The same page again, for ever, is no answer.
            (true, None) => return Err(astray("says there is more, and not where")),
            (true, Some(next)) if Some(&next) == at.as_ref() => {
                return Err(astray("gives the same page again"));
            }
            (true, Some(next)) => Some(Some(next)),
        };
        Ok(Some((stream::iter(page.entries.into_iter().map(Ok)), (client, prefix, how, next))))
    })
    .try_flatten()
    .map_err(move |error: Error| error.with_op("list").with_key(&prefix))
    .boxed()
}

fn astray(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the store {what}")).with_class(Class::Never)
}

async fn page(client: &Client, prefix: &Key, how: &List, at: Option<&str>) -> Result<Page> {
    let full = client.full(prefix.as_str());
    let after = how.after.as_ref().map(|key| client.full(key.as_str()));
    let mut call = Call::new(Method::GET, None).query("prefix", &full);
    if !how.recursive {
        call = call.query("delimiter", "/");
    }
    if client.config.list_v1 {
        if let Some(marker) = at.or(after.as_deref()) {
            call = call.query("marker", marker);
        }
    } else {
        call = call.query("list-type", "2");
        match (at, after.as_deref()) {
            (Some(token), _) => call = call.query("continuation-token", token),
            (None, Some(after)) => call = call.query("start-after", after),
            (None, None) => {}
        }
    }
    let (_, body) = client.document(&call).await.map_err(|trouble| trouble.error)?;
    let after = how.after.as_ref().map_or("", Key::as_str);
    parse(&body, &client.config.root, prefix.as_str(), after, client.config.list_v1)
}

#[derive(Default)]
struct Fields {
    key: String,
    etag: Option<String>,
    size: Option<u64>,
    modified: Option<DateTime<Utc>>,
}

fn parse(body: &[u8], root: &str, prefix: &str, after: &str, v1: bool) -> Result<Page> {
    let mut page = Page::default();
    let mut fields = Fields::default();
    let mut known = false;
    xml::walk(body, |path, text| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [_, "Contents", "Key"] => fields.key = text,
            [_, "Contents", "Size"] => fields.size = text.trim().parse().ok(),
            [_, "Contents", "ETag"] => {
                fields.etag = Some(unquoted(&text)).filter(|etag| !etag.is_empty());
            }
            [_, "Contents", "LastModified"] => {
                fields.modified =
                    DateTime::parse_from_rfc3339(text.trim()).ok().map(|time| time.to_utc());
            }
            [_, "Contents"] => {
                let found = std::mem::take(&mut fields);
                let (Some(size), Some(modified)) = (found.size, found.modified) else {
                    return Err(Error::new(
                        Kind::Corrupt,
                        format!("the store lists {:?} without its size or time", found.key),
                    ));
                };
                let meta = Meta { size, modified, version: found.etag };
                page.push(found.key, root, prefix, after, |key| Entry::Object(key, meta));
            }
            [_, "CommonPrefixes", "Prefix"] => page.push(text, root, prefix, after, Entry::Prefix),
            [_, "IsTruncated"] => page.truncated = text.trim() == "true",
            [_, "NextMarker"] if v1 => page.next = Some(text).filter(|text| !text.is_empty()),
            [_, "NextContinuationToken"] if !v1 => {
                page.next = Some(text).filter(|text| !text.is_empty());
            }
            ["ListBucketResult"] => known = true,
            _ => {}
        }
        Ok(())
    })?;
    if !known {
        return Err(Error::new(Kind::Config, "what answers is no S3 store: its listing is none")
            .with_hint("Check AWS_ENDPOINT."));
    }
    if !v1 {
        page.last = None;
    }
    // A page names its objects first and its prefixes after them.
    page.entries.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(page)
}

impl Page {
    fn push(
        &mut self,
        name: String,
        root: &str,
        prefix: &str,
        after: &str,
        entry: impl FnOnce(Key) -> Entry,
    ) {
        // A store that does not keep to the prefix shows what is not ours.
        if let Some(key) = name.strip_prefix(root).filter(|key| key.starts_with(prefix)) {
            // The object that stands for the folder itself is none of its content.
            if key > after && key != prefix {
                self.entries.push(entry(Key::foreign(key)));
            }
        }
        if self.last.as_ref().is_none_or(|last| *last < name) {
            self.last = Some(name);
        }
    }
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What it would have become.
    pub key: Key,
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub begun: Option<DateTime<Utc>>,
}

/// The first thousand unfinished uploads below `prefix`.
pub async fn unfinished(client: &Client, prefix: &Key) -> Result<Vec<Unfinished>> {
    let full = client.full(prefix.as_str());
    let call = Call::new(Method::GET, None).query("uploads", "").query("prefix", &full);
    let (_, body) = client
        .document(&call)
        .await
        .map_err(|trouble| trouble.error.with_op("list").with_key(prefix))?;
    let mut found = Vec::new();
    let (mut key, mut id, mut begun) = (String::new(), String::new(), None);
    xml::walk(&body, |path, text| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [_, "Upload", "Key"] => key = text,
            [_, "Upload", "UploadId"] => id = text,
            [_, "Upload", "Initiated"] => {
                begun = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc());
            }
            [_, "Upload"] => {
                let name = key.strip_prefix(&client.config.root).unwrap_or(&key);
                found.push(Unfinished {
                    key: Key::foreign(name),
                    id: std::mem::take(&mut id),
                    begun: begun.take(),
                });
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>true</IsTruncated>
<Contents><Key>root/p/</Key><Size>0</Size><LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>"d"</ETag></Contents>
<Contents><Key>root/p/a//../b&#x7;</Key><Size>7</Size><LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag></Contents>
<Contents><Key>root/p/z</Key><Size>8</Size><LastModified>2024-01-02T03:04:05Z</LastModified></Contents>
<CommonPrefixes><Prefix>root/p/m/</Prefix></CommonPrefixes>
<NextContinuationToken>token</NextContinuationToken></ListBucketResult>"#;

    #[test]
    fn a_page_is_in_order_and_takes_any_name() {
        let page = parse(PAGE.as_bytes(), "root/", "p/", "", false).unwrap();
        let names: Vec<_> = page.entries.iter().map(|entry| entry.key().as_str()).collect();
        assert_eq!(names, ["p/a//../b\u{7}", "p/m/", "p/z"]);
        assert_eq!((page.truncated, page.next.as_deref()), (true, Some("token")));
        let Entry::Object(_, meta) = &page.entries[0] else { panic!("not an object") };
        assert_eq!((meta.size, meta.version.as_deref()), (7, Some("e")));
        let page = parse(PAGE.as_bytes(), "root/", "p/", "p/m/", false).unwrap();
        assert_eq!(page.entries.len(), 1);
        let page = parse(PAGE.as_bytes(), "root/", "p/", "", true).unwrap();
        assert_eq!((page.next, page.last.as_deref()), (None, Some("root/p/z")));
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        assert_eq!(parse(b"<html></html>", "", "", "", false).unwrap_err().kind(), Kind::Config);
        let hollow = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
        assert_eq!(parse(hollow.as_bytes(), "", "", "", false).unwrap_err().kind(), Kind::Corrupt);
    }
}
