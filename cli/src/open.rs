//! From settings to what a job needs: store, codecs, memory.

use std::sync::Arc;
use std::time::Duration;

use walport_engine::codec::Codecs;
use walport_engine::context::Context;
use walport_engine::memory::{Budget, Operation, Plan};
use walport_engine::progress::Progress;
use walport_engine::settings::{ENCRYPTION, Settings, Source};
use walport_engine::storage::failover::{Access, Check, Failover, Merged, Named};
use walport_engine::storage::fanout::{self, Fanout, TargetSpec};
use walport_engine::storage::policies::Policies;
use walport_engine::storage::{Backend, Open, Store};
use walport_engine::{Error, Kind, Result};

use crate::program::Program;

/// The setting with the storages beside the primary one.
const FAILOVER: &str = "WALG_FAILOVER_STORAGES";
/// The name of the primary storage.
const PRIMARY: &str = "default";

/// A storage, chosen and not yet opened.
#[derive(Debug)]
pub struct Target {
    /// What opens it.
    pub backend: Backend,
    /// Its URL or path.
    pub url: String,
    /// Its name.
    pub name: String,
    /// The settings that hold for it.
    pub settings: Settings,
}

/// Chooses the storage of this name, or else the one that the settings name.
pub fn target(program: &Program, name: Option<&str>) -> Result<Target> {
    let settings = &program.settings;
    let name =
        name.or_else(|| settings.text("WALG_TARGET_STORAGE")).unwrap_or(PRIMARY).to_lowercase();
    let settings = if name == PRIMARY {
        settings.clone()
    } else {
        settings.block(FAILOVER, &name).ok_or_else(|| {
            let known: Vec<_> =
                std::iter::once(PRIMARY).chain(settings.block_names(FAILOVER)).collect();
            Error::new(Kind::Config, format!("there is no storage named {name:?}"))
                .with_hint(format!("The configured storages are: {}.", known.join(", ")))
        })?
    };
    let (backend, url) = program.registry.primary(&settings).ok_or_else(|| {
        let known: Vec<_> =
            program.registry.backends().iter().map(|backend| backend.prefix).collect();
        Error::new(Kind::Config, format!("no storage is configured for {name:?}"))
            .with_hint(format!("Set one of {}.", known.join(", ")))
    })?;
    if url.is_empty() {
        return Err(Error::new(Kind::Config, format!("{} is empty", backend.prefix))
            .with_hint("Give it the place where backups are kept."));
    }
    let backend = if url.contains("://") { program.registry.by_url(url)? } else { backend };
    Ok(Target { backend: *backend, url: url.to_owned(), name, settings: settings.clone() })
}

/// The codecs that the settings ask for, within the plan.
///
/// Fails closed: where a setting asks for a cipher in any way, nothing is
/// written in clear.
pub fn codecs(settings: &Settings, plan: &Plan) -> Result<Codecs> {
    let cipher = settings
        .iter()
        .find(|(row, _, source)| row.group == ENCRYPTION && **source != Source::Default);
    if let Some((row, _, source)) = cipher {
        return Err(Error::new(
            Kind::Config,
            format!("{}: encryption cannot be used yet", row.name),
        )
        .with_hint(format!("Unset it ({source}) only if backups may be stored in clear.")));
    }
    walport_codecs::from_settings(settings, plan.encoder, plan.threads)
}

/// What is put around every store of a command. As in WAL-G, the rate limit of
/// the network holds for backups and not for WAL, which must not fall behind.
fn policies(settings: &Settings, operation: Operation) -> Policies {
    let policies = Policies::from_settings(settings);
    match operation {
        Operation::BackupPush | Operation::BackupFetch => policies.limited(settings),
        Operation::WalPush | Operation::WalFetch | Operation::Light => policies,
    }
}

/// Everything for one command.
pub async fn context(program: &Program, operation: Operation) -> Result<Context> {
    let settings = program.settings.clone();
    let plan = Plan::derive(&settings, operation)?;
    let codecs = codecs(&settings, &plan)?;
    let opener = Opener { program, operation, budget: Budget::new(plan.buffers) };
    let storages = match fanout::from_settings(&settings)? {
        Some((targets, quorum)) => {
            vec![(PRIMARY.to_owned(), opener.targets(targets, quorum).await?)]
        }
        None if opener.has_failover() => opener.alive().await?,
        None => {
            let target = target(program, None)?;
            let store = opener.open(&target).await?;
            vec![(target.name, store)]
        }
    };
    let store: Store = match storages.as_slice() {
        [(_, only)] => Arc::clone(only),
        several => {
            let named = several.iter().map(|(name, store)| named(name, name, Arc::clone(store)));
            Arc::new(Merged::new(named.collect())?)
        }
    };
    Ok(Context {
        settings,
        store,
        storages,
        codecs,
        budget: opener.budget,
        plan,
        progress: Progress::new(),
    })
}

fn named(name: &str, id: &str, store: Store) -> Named {
    Named { name: name.to_owned(), id: id.to_owned(), store }
}

/// Opens the storages of one command.
struct Opener<'a> {
    program: &'a Program,
    operation: Operation,
    budget: Budget,
}

impl Opener<'_> {
    /// Opens one storage, with everything that belongs around it.
    async fn open(&self, target: &Target) -> Result<Store> {
        let policies = policies(&target.settings, self.operation);
        let bare = (target.backend.open)(Open {
            target: &target.url,
            settings: &target.settings,
            budget: &self.budget,
            retries: policies.retry.attempts.saturating_sub(1),
        })
        .await?;
        policies.around(bare)
    }

    /// Opens the targets of `WALPORT_TARGETS` as one store.
    async fn targets(&self, specs: Vec<TargetSpec>, quorum: usize) -> Result<Store> {
        let root = &self.program.settings;
        let patience = root.duration("WALPORT_STALL_TIMEOUT").unwrap_or(Duration::from_secs(60));
        let mut targets = Vec::with_capacity(specs.len());
        for spec in specs {
            let settings = root.block(FAILOVER, &spec.name).unwrap_or_else(|| root.clone());
            let backend = *self.program.registry.by_url(&spec.url)?;
            let target = Target { backend, url: spec.url, name: spec.name.clone(), settings };
            match self.open(&target).await {
                Ok(store) => {
                    targets.push(fanout::Target {
                        store,
                        name: spec.name,
                        required: spec.required,
                    });
                }
                Err(error) if !spec.required => {
                    log::warn!("the target {} is left out: {error}", spec.name);
                }
                Err(error) => return Err(error.context(format!("the target {}", spec.name))),
            }
        }
        Ok(Arc::new(Fanout::new(targets, quorum, patience)?))
    }

    /// Whether there are storages to fall back to, and none was chosen by name.
    fn has_failover(&self) -> bool {
        let settings = &self.program.settings;
        settings.text("WALG_TARGET_STORAGE").is_none()
            && settings.block_names(FAILOVER).next().is_some()
    }

    /// The storages that are alive: all of them to read, the first to write.
    async fn alive(&self) -> Result<Vec<(String, Store)>> {
        let settings = &self.program.settings;
        let mut opened = Vec::new();
        let mut failed = None;
        let names: Vec<_> = std::iter::once(PRIMARY)
            .chain(settings.block_names(FAILOVER))
            .map(str::to_owned)
            .collect();
        for name in names {
            let target = target(self.program, Some(&name))?;
            match self.open(&target).await {
                Ok(store) => opened.push(named(&name, &format!("{name}#{}", target.url), store)),
                Err(error) => {
                    log::warn!("the storage {name} is left out: {error}");
                    failed = failed.or(Some(error));
                }
            }
        }
        let mut opened = opened.into_iter();
        let Some(primary) = opened.next() else {
            return Err(failed.unwrap_or_else(|| Error::new(Kind::Internal, "there is no storage")));
        };
        let access = match self.operation {
            Operation::WalPush | Operation::BackupPush => Access::Write,
            Operation::WalFetch | Operation::BackupFetch | Operation::Light => Access::Read,
        };
        let check = Check::from_settings(settings, access)?;
        let failover = Failover::new(primary, opened.collect(), access, check);
        let chosen = match access {
            Access::Write => vec![failover.first_alive().await?],
            Access::Read => failover.all_alive().await?,
        };
        Ok(chosen.into_iter().map(|one| (one.name.clone(), Arc::clone(&one.store))).collect())
    }
}
