//! Listings that lie.

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use walport_engine::storage::{Entry, Error, Key, Kind, List, Result};

use super::{Broken, Lie};

/// The page of S3, and of most others.
const PAGE: usize = 1000;

type Entries<'a> = BoxStream<'a, Result<Entry>>;

impl Broken {
    pub(super) fn list_lying(&self, prefix: &Key, how: List) -> Entries<'_> {
        let entries = self.inner.list(prefix, how.clone());
        match self.lie {
            Lie::ListsOnePage => entries.take(PAGE).boxed(),
            Lie::RepeatsAtPages => {
                entries.enumerate().flat_map(|(n, entry)| repeated(n, entry)).boxed()
            }
            Lie::ListsUnordered => reversed(entries),
            Lie::ListsNeighbours => entries.chain(self.neighbours(prefix)).boxed(),
            Lie::ListsAfterInclusive => self.with_the_first(entries, prefix, how.after),
            Lie::ListsNoPrefixes => entries
                .try_filter(|entry| std::future::ready(!matches!(entry, Entry::Prefix(_))))
                .boxed(),
            Lie::ListsPrefixesAgain => entries.flat_map(prefix_again).boxed(),
            Lie::ListsNothingAsError => or_error(entries, prefix.clone()),
            Lie::ListsWrongSizes | Lie::ForgetsTime => {
                entries.map_ok(|entry| self.spoil_entry(entry)).boxed()
            }
            _ => entries,
        }
    }

    fn spoil_entry(&self, entry: Entry) -> Entry {
        match entry {
            Entry::Object(key, mut meta) => {
                meta.size += u64::from(self.is(Lie::ListsWrongSizes));
                self.age(&mut meta);
                Entry::Object(key, meta)
            }
            prefix @ Entry::Prefix(_) => prefix,
        }
    }

    /// What is beside the prefix and begins like it without its slash.
    fn neighbours(&self, prefix: &Key) -> Entries<'_> {
        let Some(bare) = prefix.as_str().strip_suffix('/').map(str::to_owned) else {
            return stream::empty().boxed();
        };
        let own = prefix.clone();
        self.inner
            .list(&prefix.parent(), List::recursive())
            .try_filter(move |entry| {
                let name = entry.key().as_str();
                std::future::ready(name.starts_with(&bare) && !name.starts_with(own.as_str()))
            })
            .boxed()
    }

    fn with_the_first<'a>(
        &'a self,
        entries: Entries<'a>,
        prefix: &Key,
        after: Option<Key>,
    ) -> Entries<'a> {
        let Some(after) = after.filter(|after| after.strip_prefix(prefix).is_some()) else {
            return entries;
        };
        let first = stream::once(async move {
            self.inner.head(&after).await.ok().map(|meta| Ok(Entry::Object(after, meta)))
        });
        first.filter_map(std::future::ready).chain(entries).boxed()
    }
}

fn repeated(n: usize, entry: Result<Entry>) -> Entries<'static> {
    let again = entry.as_ref().ok().filter(|_| n % PAGE == PAGE - 1).cloned();
    stream::iter(std::iter::once(entry).chain(again.map(Ok))).boxed()
}

fn prefix_again(entry: Result<Entry>) -> Entries<'static> {
    let again = entry.as_ref().ok().filter(|entry| matches!(entry, Entry::Prefix(_))).cloned();
    stream::iter(std::iter::once(entry).chain(again.map(Ok))).boxed()
}

fn reversed(entries: Entries<'_>) -> Entries<'_> {
    stream::once(async move {
        let mut all: Vec<_> = entries.collect().await;
        all.reverse();
        stream::iter(all)
    })
    .flatten()
    .boxed()
}

fn or_error(entries: Entries<'_>, prefix: Key) -> Entries<'_> {
    stream::once(async move {
        let mut entries = entries;
        let first = entries.next().await.unwrap_or_else(|| {
            Err(Error::new(Kind::NotFound, "no such folder").with_op("list").with_key(prefix))
        });
        stream::iter([first]).chain(entries)
    })
    .flatten()
    .boxed()
}
