//! Is everything there? A backup lists its parts and its files; a restore is
//! only complete if each of them was seen.

use std::collections::HashSet;
use std::sync::Arc;

use super::fetch::Parts;
use super::unpack::Target;
use crate::codec::transfer::{self, ChunkReader};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::names::{self, BASE_BACKUPS};
use crate::layout::{FileRecord, FilesReader, FilesVisitor, Sentinel};
use crate::storage::{Get, Object};

/// The file list of a backup, open; `None` if it has none.
async fn file_list(context: &Context, name: &str, sentinel: &Sentinel) -> Result<Option<Object>> {
    if sentinel.files_metadata_disabled {
        return Ok(None);
    }
    let key = names::files_metadata(BASE_BACKUPS, name);
    match context.store.get(&key, Get::default()).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == Kind::NotFound => {
            log::warn!("{key} is missing; the files of the backup cannot be checked against it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Fails if a part that the backup lists is not in the store. Part names are few
/// - one for each GiB - so they are compared in memory.
pub(super) async fn parts(
    context: &Context,
    name: &str,
    sentinel: &Sentinel,
    found: &Parts,
) -> Result<()> {
    let Some(list) = file_list(context, name, sentinel).await? else { return Ok(()) };
    let present: HashSet<String> = found
        .data
        .iter()
        .chain(&found.labels)
        .chain(&found.control)
        .map(|key| key.name().to_owned())
        .collect();
    let missing = transfer::read(list, move |from: &mut ChunkReader| {
        let mut visitor = MissingParts { present, missing: Vec::new() };
        FilesReader::new(from).visit(&mut visitor)?;
        Ok(visitor.missing)
    })
    .await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, format!("{name} lacks {}", missing.join(", ")))
        .with_hint("The backup is damaged and nothing was restored; restore another one."))
}

/// Collects listed parts that are not in the store.
struct MissingParts {
    present: HashSet<String>,
    missing: Vec<String>,
}

impl FilesVisitor for MissingParts {
    fn part(&mut self, part: &str) -> Result<()> {
        // Very old servers have a part without a name and without entries.
        if !part.is_empty() && !self.present.contains(part) {
            self.missing.push(part.to_owned());
        }
        Ok(())
    }
}

/// Counts listed files that are not in their place.
struct MissingFiles {
    target: Arc<Target>,
    missing: u64,
    first: Option<String>,
}

impl FilesVisitor for MissingFiles {
    fn file(&mut self, name: &str, record: &FileRecord) -> Result<()> {
        let control = name.trim_start_matches('/') == "global/pg_control";
        let wanted = !record.is_skipped && !control && self.target.wants(name);
        if wanted && std::fs::symlink_metadata(self.target.path(name)?).is_err() {
            self.missing += 1;
            self.first.get_or_insert_with(|| name.to_owned());
        }
        Ok(())
    }
}

/// Fails if a file that the backup lists was not restored.
pub(super) async fn files(
    context: &Context,
    name: &str,
    sentinel: &Sentinel,
    target: &Arc<Target>,
    control_follows: bool,
) -> Result<()> {
    let Some(list) = file_list(context, name, sentinel).await? else {
        return size(name, sentinel, target, control_follows);
    };
    let target = Arc::clone(target);
    let (missing, first) = transfer::read(list, move |from: &mut ChunkReader| {
        let mut visitor = MissingFiles { target, missing: 0, first: None };
        FilesReader::new(from).visit(&mut visitor)?;
        Ok((visitor.missing, visitor.first))
    })
    .await?;
    match first {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Corrupt, format!("{name} lacks {missing} of its files, {first} among them"))
            .with_hint("The backup is damaged; global/pg_control was not restored, so this cluster cannot start.")),
    }
}

/// Without a list, the sum of all sizes has to do.
fn size(name: &str, sentinel: &Sentinel, target: &Target, control_follows: bool) -> Result<()> {
    const CONTROL_FILE: u64 = 8192;
    let expected = sentinel.uncompressed_size;
    let seen = target.payload() + if control_follows { CONTROL_FILE } else { 0 };
    // Sentinels of streamed and very old backups count something else.
    if !sentinel.files_metadata_disabled || expected == 0 || expected == seen {
        return Ok(());
    }
    Err(Error::new(
        Kind::Corrupt,
        format!("{name} holds {seen} bytes, where its sentinel says {expected}"),
    )
    .with_hint(
        "The backup is damaged; global/pg_control was not restored, so this cluster cannot start.",
    ))
}
