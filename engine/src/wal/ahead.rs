//! Archiving ahead: while PostgreSQL waits for one segment, the other ready
//! ones of the same directory are sent too.
//!
//! A failure here is only logged: PostgreSQL will ask for that file itself.
//! `archive_status` is never touched, unless `PG_READY_RENAME` asks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream;

use super::{marker, push};
use crate::context::Context;
use crate::layout::WalFile;

/// Archives files that are ready beside `asked` until `done`, at most
/// `TOTAL_BG_UPLOADED_LIMIT` - 1 of them. What was begun is finished.
pub(super) async fn push(context: &Context, asked: &Path, name: &str, done: &AtomicBool) {
    let number = |setting| context.settings.number(setting).unwrap_or(1).max(1) as usize;
    let limit = number("TOTAL_BG_UPLOADED_LIMIT") - 1;
    let workers = (number("WALG_UPLOAD_CONCURRENCY") - 1).min(affordable(context));
    if limit == 0 || workers == 0 {
        return;
    }
    let Some(folder) = asked.parent() else { return };
    let ready = ready_files(folder, name, limit, super::segment_size(&context.settings));
    stream::iter(ready)
        .take_while(|_| std::future::ready(!done.load(Ordering::Relaxed)))
        .for_each_concurrent(workers, |name| push_ahead(context, folder.join(&name), name, done))
        .await;
}

/// How many further uploads fit into the memory that is left.
fn affordable(context: &Context) -> usize {
    let Ok(chunks) = context.plan.upload_chunks(context.store.limits()) else { return 0 };
    let one = context.plan.encoder + (chunks * crate::memory::CHUNK) as u64;
    // The encoder of the segment asked for is not drawn from the budget yet.
    (context.budget.free().saturating_sub(context.plan.encoder) / one) as usize
}

async fn push_ahead(context: &Context, path: PathBuf, name: String, done: &AtomicBool) {
    if done.load(Ordering::Relaxed) || marker::exists(context, &path, &name) {
        return;
    }
    let pushed = async {
        let pool = context.upload_pool()?;
        push::push_one(context, &path, &name, &pool).await?;
        if context.settings.flag("PG_READY_RENAME") {
            rename_ready(&path, &name)
        } else {
            marker::leave(context, &path, &name)
        }
    };
    match pushed.await {
        Ok(()) => log::info!("{name} was archived ahead"),
        Err(error) => log::warn!("{name} was not archived ahead: {error}"),
    }
}

/// The names of whole segments that are ready: those that follow `asked`
/// without a gap first, then the rest in order.
fn ready_files(folder: &Path, asked: &str, limit: usize, size: u64) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("archive_status")) else { return Vec::new() };
    // The smallest names are kept while reading: the directory may be long.
    let mut ready = std::collections::BTreeSet::new();
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".ready")) else {
            continue;
        };
        if name != asked && matches!(WalFile::classify(name, size), WalFile::Segment(_)) {
            // What follows the asked one comes first.
            ready.insert((name < asked, name.to_owned()));
            if ready.len() > limit {
                ready.pop_last();
            }
        }
    }
    ready.into_iter().map(|(_, name)| name).collect()
}

fn rename_ready(path: &Path, name: &str) -> crate::Result<()> {
    let status = path.with_file_name("archive_status");
    let ready = status.join(format!("{name}.ready"));
    fs::rename(&ready, status.join(format!("{name}.done")))
        .map_err(|error| crate::Error::io(format!("cannot rename {}", ready.display()), error))
}
