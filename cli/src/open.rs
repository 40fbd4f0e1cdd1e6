//! From settings to what a job needs: store, codecs, memory.

use walport_engine::codec::Codecs;
use walport_engine::context::Context;
use walport_engine::memory::{Budget, Operation, Plan};
use walport_engine::progress::Progress;
use walport_engine::settings::{ENCRYPTION, Settings, Source};
use walport_engine::storage::policies::Policies;
use walport_engine::storage::{Backend, Open};
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
    let Target { backend, url, name, settings } = target(program, None)?;
    let plan = Plan::derive(&settings, operation)?;
    let codecs = codecs(&settings, &plan)?;
    let budget = Budget::new(plan.buffers);
    let policies = policies(&settings, operation);
    let bare = (backend.open)(Open {
        target: &url,
        settings: &settings,
        budget: &budget,
        retries: policies.retry.attempts.saturating_sub(1),
    })
    .await?;
    let store = policies.around(bare)?;
    Ok(Context {
        settings,
        store,
        store_name: name,
        codecs,
        budget,
        plan,
        progress: Progress::new(),
    })
}
