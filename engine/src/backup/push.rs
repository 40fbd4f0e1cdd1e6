//! `backup-push`: a base backup of a running cluster.
//!
//! Order of what is stored: the parts, the control file, (pg_backup_stop), the
//! labels, metadata.json, files_metadata.json, and the sentinel last, which
//! makes it a backup. When anything fails, or the future is dropped, the session
//! with PostgreSQL ends and with it the server's backup mode.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;

use super::catalog::{Catalog, Finished};
use super::compose::{Database, Rating, Source, Updates};
use super::owners::Owners;
use super::pace::Pace;
use super::pack::{Job, Verify};
use super::spill;
use super::walk::Walk;
use crate::codec::{Pipeline, transfer};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::layout::gojson::Value;
use crate::layout::names::{self, BASE_BACKUPS};
use crate::layout::tar::{self, Header, TarWriter};
use crate::layout::{Metadata, Sentinel, Tablespace, TablespaceSpec, gotime};
use crate::memory::Pool;
use crate::postgres::{self, ArchiveMode, BackupStart, BackupStop, Client, ServerInfo};
use crate::progress::Progress;
use crate::storage::{Key, Put, StorageExt};

/// The label of the backup in PostgreSQL's own records.
const LABEL: &str = "walport";
/// Pages of one file of a relation: 1 GiB of the usual 8 KiB, as every release build has.
const SEGMENT_BLOCKS: u32 = 131_072;

/// What a backup should be like.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The data directory; must be the server's.
    pub directory: PathBuf,
    /// Retention never removes it.
    pub permanent: bool,
    /// Check the checksum of every page.
    pub verify: bool,
    /// Keep every corrupt block number, not only the first ten of a file.
    pub store_all_corrupt: bool,
    /// How files are grouped into parts.
    pub composer: Composer,
    /// Do not write files_metadata.json.
    pub without_files_metadata: bool,
    /// A JSON document to store with the backup.
    pub user_data: Option<String>,
}

/// How files are grouped into parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Composer {
    /// In the order of the walk.
    #[default]
    Regular,
    /// By how often they are updated.
    Rating,
    /// By database.
    Database,
}

/// Takes a backup and says its name.
pub async fn push(context: &Context, options: PushOptions) -> Result<String> {
    if options.without_files_metadata && options.composer != Composer::Regular {
        return Err(Error::new(
            Kind::Invalid,
            "--without-files-metadata cannot be combined with a composer",
        )
        .with_hint("Drop one of the two."));
    }
    let user_data = options
        .user_data
        .as_deref()
        .map(|text| Value::parse(text.as_bytes()))
        .transpose()
        .map_err(|error| error.context("the user data is not a JSON document"))?;
    let client = postgres::connect(&context.settings).await?;
    let server = client.server().await?;
    let directory = check_directory(&options.directory, &server)?;
    warn_if_not_archiving(&server);
    let updates = match options.composer {
        Composer::Rating => updates(context, &client).await?,
        _ => Updates::default(),
    };
    let start_time = gotime::ceil_to_micros(Utc::now());
    let start = client.start_backup(LABEL, true).await?;
    let name = format!("base_{}", start.segment_name);
    log::info!("Backup {name} starts at LSN {} of timeline {}", start.lsn, start.timeline);
    let mut run = Run::new(context, &options, &server, &start, name, directory, updates).await?;
    // The backup is worthless once the session is gone, so there is no point in
    // going on with it.
    tokio::select! {
        packed = run.pack() => packed?,
        lost = client.lost() => return Err(lost),
    }
    let stop = client.stop_backup().await?;
    run.labels(&stop).await?;
    let sentinel = run.sentinel(start_time, &stop, user_data, options.permanent)?;
    run.publish(&client, &sentinel).await?;
    log::info!("Wrote backup with name {} to storage {}", run.name, context.store_name());
    Ok(run.name)
}

/// The directory given must be the one the server runs on: a backup of another
/// one would restore to garbage.
fn check_directory(given: &Path, server: &ServerInfo) -> Result<PathBuf> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))
    };
    let (given, own) = (real(given)?, real(&server.data_directory)?);
    if given == own {
        return Ok(own);
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "{} is not the data directory of the server, which is {}",
            given.display(),
            own.display()
        ),
    )
    .with_hint(
        "Give the server's data directory, or connect to the other server with PGHOST and PGPORT.",
    ))
}

fn warn_if_not_archiving(server: &ServerInfo) {
    if server.in_recovery {
        return;
    }
    if server.archive_mode == ArchiveMode::Off {
        log::warn!(
            "archive_mode is off: without its WAL this backup cannot be restored to a consistent state"
        );
    } else if server.archive_command.is_empty() && server.archive_library.is_empty() {
        log::warn!(
            "archive_command is empty: without its WAL this backup cannot be restored to a consistent state"
        );
    }
}

/// How often each relation was changed, within the memory that is left.
async fn updates(context: &Context, client: &Client) -> Result<Updates> {
    /// Relations that are accounted for at a time, and what each holds in bytes.
    const STEP: u64 = 10_000;
    const EACH: u64 = 32;
    let mut updates = Updates::default();
    let mut count = 0_u64;
    for database in client.databases().await? {
        let Some(client) = client.try_connect_to(&database).await else { continue };
        let mut rows = pin!(client.updates().await?);
        while let Some(row) = rows.try_next().await? {
            if count.is_multiple_of(STEP) {
                updates
                    .hold(context.budget.reserve(STEP * EACH, "the rating of 10,000 relations")?);
            }
            count += 1;
            updates.add(row.database, row.relfilenode, row.count);
        }
        client.close().await;
    }
    Ok(updates)
}

/// A backup on its way.
struct Run<'a> {
    context: &'a Context,
    name: String,
    server: &'a ServerInfo,
    start: &'a BackupStart,
    directory: PathBuf,
    pipeline: Pipeline,
    job: Arc<Job>,
    number: AtomicU32,
    /// Bytes sent to the store.
    sent: AtomicU64,
}

impl<'a> Run<'a> {
    async fn new(
        context: &'a Context,
        options: &PushOptions,
        server: &'a ServerInfo,
        start: &'a BackupStart,
        name: String,
        directory: PathBuf,
        updates: Updates,
    ) -> Result<Self> {
        let folder = spill::folder(&context.settings);
        let threshold = context.settings.size("WALG_TAR_SIZE_THRESHOLD").unwrap_or(1_073_741_823);
        let verify = verification(options, server, start);
        let rate = context.settings.size("WALG_DISK_RATE_LIMIT");
        let catalog = (!options.without_files_metadata)
            .then(|| Catalog::create(folder.clone()))
            .transpose()?;
        let progress = context.progress.clone();
        if progress.is_watched() {
            measure(directory.clone(), progress.clone())?;
        }
        let (root, composer) = (directory.clone(), options.composer);
        let job = transfer::blocking("walk", move || {
            let walk = Walk::new(&root);
            let source = match composer {
                Composer::Regular => Source::Regular(walk),
                Composer::Rating => {
                    Source::Rating(Box::new(Rating::new(walk, updates, threshold, folder)?))
                }
                Composer::Database => Source::Database(Database::new(walk, &folder)?),
            };
            Ok(Job {
                root,
                source: Mutex::new(source),
                threshold,
                catalog,
                verify,
                pace: Pace::new(rate),
                owners: Owners::read(),
                progress,
                payload: AtomicI64::new(0),
                corrupt: AtomicU64::new(0),
            })
        })
        .await?;
        Ok(Self {
            context,
            name,
            server,
            start,
            directory,
            pipeline: context.codecs.writer(),
            job: Arc::new(job),
            number: AtomicU32::new(0),
            sent: AtomicU64::new(0),
        })
    }

    /// Stores the parts, then the control file.
    async fn pack(&self) -> Result<()> {
        let workers = if self.source(Source::is_grouped) { 1 } else { self.context.plan.uploads };
        try_join_all((0..workers).map(|_| self.pack_parts())).await?;
        let control = self.source(|source| source.walk().control().cloned()).ok_or_else(|| {
            Error::new(
                Kind::Corrupt,
                format!("{} has no global/pg_control", self.directory.display()),
            )
        })?;
        let pool = self.context.upload_pool()?;
        let key = names::pg_control_tar(BASE_BACKUPS, &self.name, self.pipeline.extension());
        let job = Arc::clone(&self.job);
        self.store(key, &pool, move |to| job.pack_alone(&control, to)).await
    }

    fn source<T>(&self, look: impl FnOnce(&Source) -> T) -> T {
        look(&self.job.source.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// One worker: packs part after part until nothing is left.
    async fn pack_parts(&self) -> Result<()> {
        let pool = self.context.upload_pool()?;
        loop {
            let job = Arc::clone(&self.job);
            let Some(first) = transfer::blocking("walk", move || job.first_of_part()).await? else {
                return Ok(());
            };
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            let key = names::part(BASE_BACKUPS, &self.name, number, self.pipeline.extension());
            log::debug!("{key} begins with {}", first.name);
            let (job, part) = (Arc::clone(&self.job), key.name().to_owned());
            self.store(key, &pool, move |to| job.pack(&part, first, to)).await?;
        }
    }

    /// Stores one tar, which `produce` writes.
    async fn store(
        &self,
        key: Key,
        pool: &Pool,
        produce: impl FnOnce(&mut dyn std::io::Write) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (body, done) = transfer::body_once(&self.pipeline, pool, produce);
        let how = Put { expected_size: Some(self.job.threshold), ..self.context.put(pool) };
        let stored = self.context.store.put(&key, body, how).await?;
        done.await.map_err(|_| {
            Error::new(Kind::Internal, "the store took a part whose packing failed").with_key(&key)
        })?;
        self.sent.fetch_add(stored.size, Ordering::Relaxed);
        Ok(())
    }

    /// Stores `backup_label` and `tablespace_map`.
    async fn labels(&self, stop: &BackupStop) -> Result<()> {
        let files = [
            ("backup_label", stop.backup_label.clone()),
            ("tablespace_map", stop.tablespace_map.clone()),
        ];
        let size: usize = files.iter().map(|(_, text)| text.len()).sum();
        let pool = self.context.upload_pool()?;
        let key = names::backup_label_tar(BASE_BACKUPS, &self.name, self.pipeline.extension());
        if let Some(catalog) = &self.job.catalog {
            let mut entries = catalog.part()?;
            for name in ["tablespace_map", "backup_label"] {
                entries.push(&name.to_owned())?;
            }
            catalog.end_part(key.name(), entries)?;
        }
        self.store(key, &pool, move |to| {
            let mut tar = TarWriter::new(to);
            for (name, text) in files {
                tar.append(&label_header(name, text.len() as u64))?;
                std::io::Write::write_all(&mut tar, text.as_bytes())?;
            }
            tar.finish()?;
            Ok(())
        })
        .await?;
        self.job.payload.fetch_add(size as i64, Ordering::Relaxed);
        Ok(())
    }

    fn sentinel(
        &self,
        start_time: DateTime<Utc>,
        stop: &BackupStop,
        user_data: Option<Value>,
        permanent: bool,
    ) -> Result<Sentinel> {
        let finish_time = Utc::now();
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("{} is not valid UTF-8", path.display()))
            })
        };
        Ok(Sentinel {
            lsn: Some(self.start.lsn),
            pg_version: self.server.version_num,
            finish_lsn: Some(stop.lsn),
            system_identifier: self.server.system_identifier,
            uncompressed_size: self.job.payload.load(Ordering::Relaxed).max(0) as u64,
            compressed_size: self.sent.load(Ordering::Relaxed),
            data_catalog_size: self.source(|source| source.walk().catalog_size()),
            spec: self.spec(),
            user_data,
            files_metadata_disabled: self.job.catalog.is_none(),
            start_time,
            finish_time: gotime::ceil_to_micros(finish_time),
            date_fmt: crate::layout::metadata::DATE_FORMAT.to_owned(),
            hostname: hostname(),
            data_dir: text(&self.directory)?,
            is_permanent: permanent,
            ..Sentinel::default()
        })
    }

    fn spec(&self) -> Option<TablespaceSpec> {
        let found = self.source(|source| source.walk().tablespaces().to_vec());
        if found.is_empty() {
            return None;
        }
        let mut spec = TablespaceSpec::new(&self.directory.to_string_lossy());
        for tablespace in found {
            spec.tablespaces.push(Tablespace::new(tablespace.name, &tablespace.target));
        }
        Some(spec)
    }

    /// Stores the documents, the sentinel last.
    async fn publish(&mut self, client: &Client, sentinel: &Sentinel) -> Result<()> {
        let store = &self.context.store;
        let key = names::metadata(BASE_BACKUPS, &self.name);
        store.put_bytes(&key, Metadata::of(sentinel).to_json()?, Put::default()).await?;
        if let Some(catalog) = self.take_catalog()? {
            self.files_metadata(client, catalog).await?;
        }
        let corrupt = self.job.corrupt.load(Ordering::Relaxed);
        if corrupt > 0 {
            log::warn!(
                "{corrupt} pages have a wrong checksum; see CorruptBlocks in files_metadata.json"
            );
        }
        let key = names::sentinel(BASE_BACKUPS, &self.name);
        store.put_bytes(&key, sentinel.to_json()?, Put::default()).await?;
        Ok(())
    }

    fn take_catalog(&mut self) -> Result<Option<Finished>> {
        let job = Arc::get_mut(&mut self.job)
            .ok_or_else(|| Error::new(Kind::Internal, "a part is still being packed"))?;
        job.catalog.take().map(Catalog::finish).transpose()
    }

    /// Streams `files_metadata.json` from disk to the store.
    async fn files_metadata(&self, client: &Client, catalog: Finished) -> Result<()> {
        let databases = if self.context.settings.flag("WALG_DISABLE_PARTIAL_RESTORE") {
            None
        } else {
            let folder = spill::folder(&self.context.settings);
            Some(super::databases::collect(client, &folder).await?)
        };
        let pool = self.context.upload_pool()?;
        let (body, done) = transfer::plain_once(&pool, move |to| {
            catalog.write(to, |document| {
                databases.map_or(Ok(()), |databases| databases.write(document))
            })
        });
        let key = names::files_metadata(BASE_BACKUPS, &self.name);
        self.context.store.put(&key, body, self.context.put(&pool)).await?;
        done.await.map_err(|_| {
            Error::new(Kind::Internal, "the file list was not written whole").with_key(&key)
        })
    }
}

/// Finds out, beside the backup, how many bytes there will be to read.
fn measure(root: PathBuf, progress: Progress) -> Result<()> {
    let measured = transfer::spawn("measure", move || {
        let mut walk = Walk::new(&root);
        while let Some(entry) = walk.next()? {
            progress.add_total(entry.size);
        }
        Ok(())
    })?;
    // Only the progress line needs the result, and what fails here fails the
    // backup itself, too.
    drop(measured);
    Ok(())
}

fn verification(options: &PushOptions, server: &ServerInfo, start: &BackupStart) -> Option<Verify> {
    if !options.verify {
        return None;
    }
    if !server.data_checksums {
        log::warn!("page checksums are not verified: the cluster has none");
        return None;
    }
    Some(Verify {
        block_size: server.block_size,
        segment_blocks: SEGMENT_BLOCKS,
        start_lsn: start.lsn,
        all: options.store_all_corrupt,
    })
}

fn label_header(name: &str, size: u64) -> Header {
    Header {
        name: name.as_bytes().to_vec(),
        size,
        mode: 0o600,
        uid: 0,
        gid: 0,
        uname: String::new(),
        gname: String::new(),
        mtime: 0,
        kind: tar::Kind::File,
    }
}

/// The name of this host; empty if the system does not say, as in WAL-G.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
