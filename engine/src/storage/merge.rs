//! Several stores seen as one: which of them has an object, and one listing of all.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Result, Storage};

/// One of several stores, with the name it goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) store: &'a dyn Storage,
    /// Its failure is a warning where another one answers.
    pub(super) optional: bool,
}

/// Versions of several stores must not be taken for one another's.
pub(super) fn tagged(index: usize, mut meta: Meta) -> Meta {
    meta.version = tag(index, meta.version);
    meta
}

/// `version` as one of the store at `index`.
pub(super) fn tag(index: usize, version: Option<String>) -> Option<String> {
    version.map(|version| format!("{index}:{version}"))
}

/// The store that a version of [`tagged`] belongs to, and what it calls it.
fn untag(version: &str) -> Option<(usize, &str)> {
    let (index, version) = version.split_once(':')?;
    Some((index.parse().ok()?, version))
}

/// Why no store had the object so far. It is only missing if every store says
/// so: one that cannot answer may have it.
#[derive(Default)]
struct Misses(Option<Error>);

impl Misses {
    fn note(&mut self, member: &Member<'_>, error: Error) {
        if error.kind() != Kind::NotFound {
            log::warn!("storage {}: {error}", member.name);
            self.0.get_or_insert(error.context(format!("storage {}", member.name)));
        }
    }

    fn end(self, op: &'static str, key: &Key) -> Error {
        self.0.unwrap_or_else(|| {
            Error::new(Kind::NotFound, "no such object").with_op(op).with_key(key)
        })
    }
}

/// Opens the object in the first store that has it, or in the one that the
/// wanted version belongs to.
pub(super) async fn get(members: &[Member<'_>], key: &Key, how: Get) -> Result<Object> {
    if let Some(version) = &how.version {
        let found = untag(version).and_then(|(index, own)| Some((index, own, members.get(index)?)));
        let Some((index, own, member)) = found else {
            return Err(Error::new(Kind::Changed, format!("no storage has a version {version}"))
                .with_op("get")
                .with_key(key));
        };
        let how = Get { range: how.range.clone(), version: Some(own.to_owned()) };
        let mut object = member.store.get(key, how).await?;
        object.meta = tagged(index, object.meta);
        return Ok(object);
    }
    let mut misses = Misses::default();
    for (index, member) in members.iter().enumerate() {
        match member.store.get(key, how.clone()).await {
            Ok(mut object) => {
                object.meta = tagged(index, object.meta);
                return Ok(object);
            }
            Err(error) => misses.note(member, error),
        }
    }
    Err(misses.end("get", key))
}

/// What the first store that has the object knows of it.
pub(super) async fn head(members: &[Member<'_>], key: &Key) -> Result<Meta> {
    let mut misses = Misses::default();
    for (index, member) in members.iter().enumerate() {
        match member.store.head(key).await {
            Ok(meta) => return Ok(tagged(index, meta)),
            Err(error) => misses.note(member, error),
        }
    }
    Err(misses.end("head", key))
}

/// One listing of all: each key once, from the first store that has it. Needs
/// ordered listings, of which it holds one entry each.
pub(super) fn list<'a>(
    members: Vec<Member<'a>>,
    prefix: &Key,
    how: &List,
    each: bool,
) -> BoxStream<'a, Result<(usize, Entry)>> {
    if let Some(member) =
        members.iter().find(|member| members.len() > 1 && !member.store.limits().ordered_list)
    {
        let error = Error::new(
            Kind::Unsupported,
            format!("the storage {} does not list in order", member.name),
        )
        .with_op("list")
        .with_key(prefix)
        .with_hint("Several storages can be read as one only if each of them lists in byte order.");
        return stream::iter([Err(error)]).boxed();
    }
    let sources = members
        .into_iter()
        .map(|member| Source {
            member,
            entries: Some(member.store.list(prefix, how.clone())),
            head: None,
            failed: false,
        })
        .collect();
    let merge = Merge { sources, each };
    stream::unfold(Some(merge), |merge| async {
        let mut merge = merge?;
        match merge.next().await {
            Ok(None) => None,
            Ok(Some(found)) => Some((Ok(found), Some(merge))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// As [`list`], each key once, without saying where it is.
pub(super) fn entries<'a>(
    members: Vec<Member<'a>>,
    prefix: &Key,
    how: &List,
) -> BoxStream<'a, Result<Entry>> {
    list(members, prefix, how, false)
        .map(|found| {
            found.map(|(index, entry)| match entry {
                Entry::Object(key, meta) => Entry::Object(key, tagged(index, meta)),
                prefix @ Entry::Prefix(_) => prefix,
            })
        })
        .boxed()
}

struct Source<'a> {
    member: Member<'a>,
    entries: Option<BoxStream<'a, Result<Entry>>>,
    head: Option<Entry>,
    failed: bool,
}

struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// Every storage's entry of a key, not only the first one's.
    each: bool,
}

impl Merge<'_> {
    async fn next(&mut self) -> Result<Option<(usize, Entry)>> {
        for index in 0..self.sources.len() {
            if let Err(error) = self.sources[index].fill().await {
                self.sources[index].failed = true;
                // Where no storage answers, there is no listing at all.
                if !self.sources[index].member.optional
                    || self.sources.iter().all(|source| source.failed)
                {
                    return Err(error);
                }
                log::warn!("{error}; its objects are not listed");
            }
        }
        let heads = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| Some((source.head.as_ref()?.key(), index)));
        let Some((key, index)) = heads.min() else { return Ok(None) };
        let key = key.clone();
        let found = self.sources[index].head.take();
        if !self.each {
            for source in &mut self.sources {
                if source.head.as_ref().is_some_and(|head| *head.key() == key) {
                    source.head = None;
                }
            }
        }
        Ok(found.map(|entry| (index, entry)))
    }
}

impl Source<'_> {
    async fn fill(&mut self) -> Result<()> {
        if self.head.is_some() {
            return Ok(());
        }
        let Some(entries) = &mut self.entries else { return Ok(()) };
        match entries.next().await.transpose() {
            Ok(Some(entry)) => self.head = Some(entry),
            Ok(None) => self.entries = None,
            Err(error) => {
                self.entries = None;
                return Err(error.context(format!("storage {}", self.member.name)));
            }
        }
        Ok(())
    }
}

/// What all of these stores can do.
pub(super) fn limits<'a>(all: impl IntoIterator<Item = &'a Limits>) -> Limits {
    let all_of_it = Limits { attributes: true, ..Limits::unlimited() };
    all.into_iter().fold(all_of_it, |one, other| Limits {
        create_if_absent: one.create_if_absent && other.create_if_absent,
        server_side_copy: one.server_side_copy && other.server_side_copy,
        pinned_reads: one.pinned_reads && other.pinned_reads,
        ordered_list: one.ordered_list && other.ordered_list,
        atomic_put: one.atomic_put && other.atomic_put,
        atomic_replace: one.atomic_replace && other.atomic_replace,
        attributes: one.attributes && other.attributes,
        min_part: one.min_part.max(other.min_part),
        max_part: one.max_part.min(other.max_part),
        max_parts: match (one.max_parts, other.max_parts) {
            (0, parts) | (parts, 0) => parts,
            (one, other) => one.min(other),
        },
        max_object: one.max_object.min(other.max_object),
        delete_batch: one.delete_batch.min(other.delete_batch),
        max_key: one.max_key.min(other.max_key),
    })
}
