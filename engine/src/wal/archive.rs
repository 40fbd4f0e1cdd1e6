//! What push and fetch share: finding a WAL file in the archive whatever it was
//! compressed with.

use futures_util::future::join_all;

use crate::codec::Pipeline;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::names;
use crate::storage::{Get, Key, Object};

/// A WAL file that is in the archive.
pub(super) struct Archived {
    /// The key it was found under.
    pub key: Key,
    /// Its bytes.
    pub object: Object,
    /// How to decode them.
    pub pipeline: Pipeline,
}

/// Opens `name`, trying each codec that this program reads: first the one it
/// writes with, then WAL-G's order. `None` only if every one of them is absent.
pub(super) async fn open(context: &Context, name: &str) -> Result<Option<Archived>> {
    let extensions = context.codecs.probe(None);
    let Some((likely, others)) = extensions.split_first() else {
        return Ok(None);
    };
    if let Some(found) = open_as(context, name, likely).await? {
        return Ok(Some(found));
    }
    // The rest are asked for at once: at the end of recovery PostgreSQL asks for
    // files that do not exist, and each would cost a round trip.
    let answers = join_all(others.iter().map(|extension| async move {
        let key = key(name, extension)?;
        match context.store.head(&key).await {
            Ok(_) => Ok(Some(*extension)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }))
    .await;
    let mut failed = None;
    for answer in answers {
        match answer {
            Ok(Some(extension)) => return open_as(context, name, extension).await,
            Ok(None) => {}
            // A codec further on may still have it; if none has, this counts.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

async fn open_as(context: &Context, name: &str, extension: &str) -> Result<Option<Archived>> {
    let key = key(name, extension)?;
    match context.store.get(&key, Get::default()).await {
        Ok(object) => {
            let pipeline = context.codecs.reader(extension)?;
            Ok(Some(Archived { key, object, pipeline }))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn key(name: &str, extension: &str) -> Result<Key> {
    // The name comes from a command line.
    Key::parse(names::wal(name, extension).as_str())
}

/// The name of a WAL file as a command line gives it: one path segment.
pub(super) fn checked_name(name: &str) -> Result<&str> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::new(Kind::Invalid, format!("{name:?} is not the name of a WAL file")));
    }
    Ok(name)
}
