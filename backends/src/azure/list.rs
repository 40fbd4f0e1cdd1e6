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

/// The names of one page; a page is held in memory.
const PAGE: &str = "1000";

/// One answer of the store.
#[derive(Debug, Default)]
struct Page {
    entries: Vec<Entry>,
    next: Option<String>,
}

/// The entries below `prefix`.
pub fn list(client: Arc<Client>, prefix: Key, how: List) -> BoxStream<'static, Result<Entry>> {
    let state = (client, prefix.clone(), how, Some(None::<String>));
    stream::try_unfold(state, |(client, prefix, how, next)| async move {
        let Some(at) = next else { return Ok(None) };
        let page = page(&client, &prefix, &how, at.as_deref()).await?;
        // The same page again, for ever, is no answer.
        if page.next.is_some() && page.next == at {
            return Err(Error::new(Kind::Corrupt, "the store gives the same page again")
                .with_class(Class::Never));
        }
        let next = page.next.map(Some);
        Ok(Some((stream::iter(page.entries.into_iter().map(Ok)), (client, prefix, how, next))))
    })
    .try_flatten()
    .map_err(move |error: Error| error.with_op("list").with_key(&prefix))
    .boxed()
}

async fn page(client: &Client, prefix: &Key, how: &List, at: Option<&str>) -> Result<Page> {
    let mut call = Call::new(Method::GET, None)
        .query("restype", "container")
        .query("comp", "list")
        .query("maxresults", PAGE);
    let full = client.full(prefix.as_str());
    if !full.is_empty() {
        call = call.query("prefix", full);
    }
    if !how.recursive {
        call = call.query("delimiter", "/");
    }
    match (at, &how.after) {
        (Some(marker), _) => call = call.query("marker", marker),
        (None, Some(after)) if client.config.has_start_from() => {
            call = call.query("startFrom", client.full(after.as_str()));
        }
        _ => {}
    }
    let (_, body) = client.document(&call).await?;
    parse(&body, &client.config.root, prefix.as_str(), how.after.as_ref().map_or("", Key::as_str))
}

#[derive(Default)]
struct Fields {
    name: String,
    etag: Option<String>,
    size: Option<u64>,
    modified: Option<DateTime<Utc>>,
    directory: bool,
}

fn parse(body: &[u8], root: &str, prefix: &str, after: &str) -> Result<Page> {
    let mut page = Page::default();
    let mut fields = Fields::default();
    let mut known = false;
    xml::walk(body, |path, text| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [_, "Blobs", "Blob", "Name"] => fields.name = text,
            [_, "Blobs", "Blob", "Properties", "Content-Length"] => {
                fields.size = text.trim().parse().ok();
            }
            [_, "Blobs", "Blob", "Properties", "Etag"] => {
                fields.etag = Some(unquoted(&text)).filter(|etag| !etag.is_empty());
            }
            [_, "Blobs", "Blob", "Properties", "Last-Modified"] => {
                fields.modified =
                    DateTime::parse_from_rfc2822(text.trim()).ok().map(|time| time.to_utc());
            }
            // An account with a hierarchy of names shows its folders as blobs.
            [_, "Blobs", "Blob", "Properties", "ResourceType"] => {
                fields.directory = text.trim() == "directory";
            }
            [_, "Blobs", "Blob"] => {
                let found = std::mem::take(&mut fields);
                let (Some(size), Some(modified)) = (found.size, found.modified) else {
                    return Err(Error::new(
                        Kind::Corrupt,
                        format!("the store lists {:?} without its size or time", found.name),
                    ));
                };
                let meta = Meta { size, modified, version: found.etag };
                if !found.directory {
                    page.push(&found.name, root, prefix, after, |key| Entry::Object(key, meta));
                }
            }
            [_, "Blobs", "BlobPrefix", "Name"] => {
                page.push(&text, root, prefix, after, Entry::Prefix);
            }
            [_, "NextMarker"] => page.next = Some(text).filter(|text| !text.is_empty()),
            ["EnumerationResults"] => known = true,
            _ => {}
        }
        Ok(())
    })?;
    if !known {
        return Err(Error::new(
            Kind::Config,
            "what answers is no blob service: its listing is none",
        )
        .with_hint("Check AZURE_STORAGE_ACCOUNT and WALPORT_AZURE_ENDPOINT."));
    }
    page.entries.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(page)
}

impl Page {
    fn push(
        &mut self,
        name: &str,
        root: &str,
        prefix: &str,
        after: &str,
        entry: impl FnOnce(Key) -> Entry,
    ) {
        let Some(key) = name.strip_prefix(root).filter(|key| key.starts_with(prefix)) else {
            return;
        };
        // The object that stands for the folder itself is none of its content.
        if key > after && key != prefix {
            self.entries.push(entry(Key::foreign(key)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="box"><Prefix>root/p/</Prefix><Delimiter>/</Delimiter><Blobs>
<Blob><Name>root/p/a &amp; b</Name><Properties><Creation-Time>Thu, 23 Aug 2018 23:05:22 GMT</Creation-Time><Last-Modified>Thu, 23 Aug 2018 23:05:22 GMT</Last-Modified><Etag>0x8D6</Etag><Content-Length>7</Content-Length><ResourceType>file</ResourceType></Properties><OrMetadata /></Blob>
<Blob><Name>root/p/folder</Name><Properties><Last-Modified>Thu, 23 Aug 2018 23:05:22 GMT</Last-Modified><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>
<BlobPrefix><Name>root/p/m/</Name></BlobPrefix>
<Blob><Name Encoded="true">root/p/z%EF%BF%BE</Name><Properties><Last-Modified>Thu, 23 Aug 2018 23:05:22 GMT</Last-Modified><Etag>"0x8D7"</Etag><Content-Length>8</Content-Length></Properties></Blob>
</Blobs><NextMarker>more</NextMarker></EnumerationResults>"#;

    #[test]
    fn a_page_is_read() {
        let page = parse(PAGE.as_bytes(), "root/", "p/", "").unwrap();
        let names: Vec<_> = page.entries.iter().map(|entry| entry.key().as_str()).collect();
        assert_eq!(names, ["p/a & b", "p/m/", "p/z\u{fffe}"]);
        assert_eq!(page.next.as_deref(), Some("more"));
        let Entry::Object(_, meta) = &page.entries[2] else { panic!("not an object") };
        assert_eq!((meta.size, meta.version.as_deref()), (8, Some("0x8D7")));
        assert_eq!(parse(PAGE.as_bytes(), "root/", "p/", "p/m/").unwrap().entries.len(), 1);
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        assert_eq!(parse(b"<html></html>", "", "", "").unwrap_err().kind(), Kind::Config);
        let hollow =
            "<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></EnumerationResults>";
        assert_eq!(parse(hollow.as_bytes(), "", "", "").unwrap_err().kind(), Kind::Corrupt);
    }
}
