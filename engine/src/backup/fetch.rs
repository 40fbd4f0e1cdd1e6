//! `backup-fetch`: a base backup back into a directory.
//!
//! The control file comes last, after everything else was unpacked, checked
//! against the backup's own lists and synced: without it PostgreSQL does not
//! start, so a restore that was broken off cannot be taken for a whole one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::list;
pub use super::list::Selector;
use super::unpack::{Target, unpack};
use super::verify;
use crate::codec::transfer;
use crate::context::Context;
use crate::error::{Class, Error, Kind, Result};
use crate::layout::names::{self, BASE_BACKUPS};
use crate::layout::{Sentinel, TablespaceSpec};
use crate::storage::{Entry, Get, Key, List};

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Which backup.
    pub backup: Selector,
    /// Where to; must be empty or absent.
    pub destination: PathBuf,
    /// Only files whose path matches this pattern.
    pub mask: Option<String>,
    /// A file with a tablespace specification that replaces the backup's own.
    pub restore_spec: Option<PathBuf>,
    /// New places of tablespaces: OID and directory.
    pub tablespace_map: Vec<(String, PathBuf)>,
}

/// Restores a backup and says its name.
pub async fn fetch(context: &Context, options: FetchOptions) -> Result<String> {
    let (name, storage) = list::find(context, &options.backup).await?;
    let context = &context.within(&storage);
    let sentinel = list::sentinel(context, &name).await?;
    if let Some(delta) = &sentinel.delta {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{name} is a delta of {}, which this version does not restore", delta.from),
        )
        .with_hint("Restore a full backup, or this one with WAL-G."));
    }
    log::info!("Selecting backup {name}");
    let parts = parts(context, &name).await?;
    let spec = tablespaces(&sentinel, &options)?;
    let target = Arc::new(prepare(&sentinel, &options, spec, !parts.labels.is_empty())?);
    context.progress.add_total(sentinel.uncompressed_size);
    verify::parts(context, &name, &sentinel, &parts).await?;
    unpack_all(context, &parts.data, &target).await?;
    unpack_all(context, &parts.labels, &target).await?;
    target.make_links()?;
    let control = &parts.control;
    verify::files(context, &name, &sentinel, &target, control.is_some()).await?;
    let sync = !context.settings.flag("WALG_TAR_DISABLE_FSYNC");
    if sync {
        let target = Arc::clone(&target);
        transfer::blocking("sync", move || target.sync()).await?;
    }
    if let Some(control) = control {
        target.expect_control();
        let unpacked = unpack_all(context, std::slice::from_ref(control), &target).await;
        if let Err(error) = unpacked {
            target.remove_control();
            return Err(error);
        }
        if sync {
            let target = Arc::clone(&target);
            transfer::blocking("sync", move || target.sync_control()).await?;
        }
    }
    log::info!("Backup extraction complete: {name}");
    Ok(name)
}

/// The tars of a backup.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The parts with data.
    pub data: Vec<Key>,
    /// `backup_label.tar`, if there is one.
    pub labels: Vec<Key>,
    /// `pg_control.tar`.
    pub control: Option<Key>,
}

async fn parts(context: &Context, name: &str) -> Result<Parts> {
    let folder = names::tar_partitions(BASE_BACKUPS, name);
    let mut parts = Parts::default();
    let mut entries = context.store.list(&folder, List::default());
    while let Some(entry) = entries.try_next().await? {
        let Entry::Object(key, _) = entry else { continue };
        if names::is_pg_control_tar(key.name()) {
            parts.control = Some(key);
        } else if names::is_backup_label_tar(key.name()) {
            parts.labels.push(key);
        } else {
            // A codec that we lack is found out before anything is written.
            context.codecs.reader(extension(&key)).map_err(|error| error.with_key(&key))?;
            parts.data.push(key);
        }
    }
    if parts.control.is_none() && !names::is_wale_name(name) {
        return Err(Error::new(Kind::Corrupt, format!("{folder} holds no pg_control.tar"))
            .with_hint("The backup is damaged; restore another one."));
    }
    Ok(parts)
}

fn extension(key: &Key) -> &str {
    key.name().rsplit('.').next().unwrap_or_default()
}

/// The tablespaces of the restored cluster, or `None` if the backup has none.
fn tablespaces(sentinel: &Sentinel, options: &FetchOptions) -> Result<Option<TablespaceSpec>> {
    let mut spec = match &options.restore_spec {
        None => sentinel.spec.clone(),
        Some(path) => {
            let text = fs::read(path)
                .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
            Some(TablespaceSpec::parse(&text).map_err(|error| error.context(path.display()))?)
        }
    };
    if !options.tablespace_map.is_empty() {
        let moves = options
            .tablespace_map
            .iter()
            .map(|(oid, path)| Ok((oid.as_str(), absolute(path)?)))
            .collect::<Result<Vec<_>>>()?;
        spec.get_or_insert_with(|| TablespaceSpec::new("")).remap(&moves)?;
    }
    Ok(spec.filter(|spec| !spec.tablespaces.is_empty()))
}

fn absolute(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot use {}", path.display()), error))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::new(Kind::Invalid, format!("{} is not valid UTF-8", path.display())))
}

/// Makes the directories and links that must be there before the first file.
fn prepare(
    sentinel: &Sentinel,
    options: &FetchOptions,
    spec: Option<TablespaceSpec>,
    local: bool,
) -> Result<Target> {
    let destination = PathBuf::from(absolute(&options.destination)?);
    let mask = options.mask.as_deref().map(super::unpack::mask).transpose()?;
    empty_directory(&destination)?;
    let mut roots = vec![destination.clone()];
    if let Some(spec) = &spec {
        let links = destination.join("pg_tblspc");
        make_directory(&links)?;
        for tablespace in &spec.tablespaces {
            let place = PathBuf::from(&tablespace.location);
            empty_directory(&place)?;
            let link = links.join(&tablespace.name);
            std::os::unix::fs::symlink(&place, &link)
                .map_err(|error| Error::io(format!("cannot create {}", link.display()), error))?;
            roots.push(place);
        }
    }
    check_space(sentinel, &roots)?;
    // The map in the backup names the old places.
    let moved = options.restore_spec.is_some() || !options.tablespace_map.is_empty();
    Ok(Target::new(destination, roots, mask, moved, local))
}

fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io(format!("cannot create {}", path.display()), error))
}

fn empty_directory(path: &Path) -> Result<()> {
    make_directory(path)?;
    let mut entries = fs::read_dir(path)
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    if entries.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("{} is not empty", path.display()))
        .with_hint("Restore into an empty directory: nothing that exists is overwritten."))
}

/// Fails early if the data cannot fit. With tablespaces on other file systems
/// the backup does not say what goes where, so nothing is checked then.
fn check_space(sentinel: &Sentinel, roots: &[PathBuf]) -> Result<()> {
    let needed = sentinel.uncompressed_size;
    let [only] = roots else { return Ok(()) };
    let Ok(system) = rustix::fs::statvfs(only) else { return Ok(()) };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Error::new(
        Kind::Full,
        format!(
            "{} has {} MiB free, and the backup needs {} MiB",
            only.display(),
            free >> 20,
            needed.div_ceil(1 << 20)
        ),
    )
    .with_hint("Free space there, or restore to another file system."))
}

/// Unpacks tars, as many at once as the plan allows. A tar whose download
/// failed for a passing reason is unpacked again from its start.
async fn unpack_all(context: &Context, keys: &[Key], target: &Arc<Target>) -> Result<()> {
    stream::iter(keys)
        .map(|key| unpack_patiently(context, key, target))
        .buffer_unordered(context.plan.downloads)
        .try_collect::<()>()
        .await
}

async fn unpack_patiently(context: &Context, key: &Key, target: &Arc<Target>) -> Result<()> {
    let rounds = context.settings.number("WALG_DOWNLOAD_FILE_RETRIES").unwrap_or(15).max(0);
    let mut wait = Duration::from_secs(1);
    for round in 0.. {
        match unpack_one(context, key, target).await {
            Err(error) if error.class() != Class::Never && round < rounds => {
                log::warn!("{error}; trying again in {} s", wait.as_secs());
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(60));
            }
            other => return other,
        }
    }
    Ok(())
}

async fn unpack_one(context: &Context, key: &Key, target: &Arc<Target>) -> Result<()> {
    let _memory = context.budget.reserve(crate::memory::plan::DECODER, "unpacking a part")?;
    let pipeline = context.codecs.reader(extension(key))?;
    let object = context.store.get(key, Get::default()).await?;
    let (target, progress) = (Arc::clone(target), context.progress.clone());
    transfer::download(object, pipeline, move |from| unpack(from, &target, &progress))
        .await
        .map_err(|error| if error.key().is_some() { error } else { error.with_key(key) })
}
