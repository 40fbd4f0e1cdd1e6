//! One run of the program: settings, runtime, signals, exit status.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use walport_engine::codec::transfer;
use walport_engine::context::Context;
use walport_engine::error::{EXIT_WAL_MISSING, EXIT_WAL_MISSING_STRICT};
use walport_engine::memory::Operation;
use walport_engine::settings::{Settings, Source, Sources, Table, load};
use walport_engine::storage::Registry;
use walport_engine::{Error, Kind, Result};

use crate::args::Parsed;
use crate::command::Command;
use crate::{logging, open, output, process, progress};

/// How a command ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked for.
    Done,
    /// `wal-fetch`: there is no such file.
    WalMissing,
}

/// Everything a command finds.
#[derive(Debug)]
pub struct Program {
    /// The stores that can be opened.
    pub registry: Registry,
    /// The effective settings.
    pub settings: Settings,
    /// What is odd about the settings.
    pub warnings: Vec<Error>,
    /// What is wrong with them.
    pub problems: Vec<Error>,
    /// The signal that ended the work.
    signal: Option<i32>,
}

/// The table of every setting of this program. Where two rooms know a setting,
/// the one that uses it comes first.
pub fn table(registry: &Registry) -> Table {
    let rows = registry.settings();
    Table::new(
        rows.chain(walport_codecs::SETTINGS)
            .chain(walport_engine::postgres::SETTINGS)
            .chain(walport_engine::storage::SETTINGS)
            .chain(walport_engine::settings::SETTINGS),
    )
}

/// The stack of a thread of the blocking pool: small, because virtual memory counts.
const STACK: usize = 256 << 10;
/// Disk is what the blocking pool is for, and more threads do not make it faster.
const BLOCKING_THREADS: usize = 4;
/// How long work on a disk may take to clean up after the command has ended.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// Runs the command and gives the exit status.
pub fn run(registry: Registry, table: Arc<Table>, parsed: Parsed) -> u8 {
    let cli = parsed.cli;
    let Some(command) = cli.command else {
        // Only `--version` and help make sense without a command.
        return 1;
    };
    let sources = Sources {
        flags: parsed.flags,
        config: cli.config,
        environment: std::env::vars_os().collect(),
        homes: homes(),
    };
    let loaded = load(table, &sources);
    let strict = cli.strict_exit_codes || loaded.settings.flag("WALPORT_STRICT_EXIT_CODES");
    let mut program = Program {
        registry,
        settings: loaded.settings,
        warnings: loaded.warnings,
        problems: loaded.problems,
        signal: None,
    };
    let result = program.prepare(&command, cli.turbo).and_then(|()| command.run(&mut program));
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::WalMissing) if strict => EXIT_WAL_MISSING_STRICT,
        Ok(Outcome::WalMissing) => EXIT_WAL_MISSING,
        Err(error) => {
            logging::error(&error);
            match program.signal {
                Some(signal) if strict => 128 + signal as u8,
                _ => error.exit_code(strict),
            }
        }
    }
}

impl Program {
    /// Stops at the first wrong setting and starts to log as the settings say.
    fn prepare(&mut self, command: &Command, turbo: bool) -> Result<()> {
        if !command.needs_settings() {
            return Ok(());
        }
        if let Some(problem) = self.problems.drain(..).next() {
            return Err(problem);
        }
        logging::configure(
            &self.settings,
            if command.is_in_background() { "PREFETCH " } else { "" },
        )?;
        if command.is_in_background() && log::max_level() < LevelFilter::Debug {
            log::set_max_level(LevelFilter::Off);
        }
        for warning in &self.warnings {
            logging::warning(warning);
        }
        if turbo {
            self.settings.unset("WALG_DISK_RATE_LIMIT");
            self.settings.unset("WALG_NETWORK_RATE_LIMIT");
            self.settings.set(
                "WALG_UPLOAD_DISK_CONCURRENCY",
                "4",
                Source::Flag("--turbo".to_owned()),
            )?;
        }
        log::debug!("{}", self.dump());
        Ok(())
    }

    /// Every value that was set, secrets hidden.
    fn dump(&self) -> String {
        let mut text = "Effective settings:".to_owned();
        for (row, value, source) in
            self.settings.iter().filter(|(_, _, source)| **source != Source::Default)
        {
            text.push_str(&format!("\n\t{}={} ({source})", row.name, output::masked(row, value)));
        }
        text
    }

    /// Takes `--target-storage`, which is stronger than `WALG_TARGET_STORAGE`.
    pub fn target(&mut self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) => self.settings.set(
                "WALG_TARGET_STORAGE",
                name,
                Source::Flag("--target-storage".to_owned()),
            ),
            None => Ok(()),
        }
    }

    /// Opens the store and does `work` with it, until it is done or a signal
    /// comes; then what is under way is dropped, which aborts uploads and ends
    /// a backup session.
    pub fn job<T>(
        &mut self,
        operation: Operation,
        work: impl AsyncFnOnce(&Context) -> Result<T>,
    ) -> Result<T> {
        let runtime = runtime()?;
        let result = runtime.block_on(async {
            let work = async {
                let context = open::context(self, operation).await?;
                progress::shown(&context.settings, &context.progress, work(&context)).await
            };
            tokio::select! {
                biased;
                result = work => result.map_err(Ended::Failed),
                signal = signalled() => Err(Ended::Signal(signal)),
            }
        });
        runtime.shutdown_timeout(CLEAN_UP);
        if result.is_err() {
            // Whoever still writes a file sees that nobody waits for it and removes it.
            transfer::settle(CLEAN_UP);
        }
        result.map_err(|ended| match ended {
            Ended::Failed(error) => error,
            Ended::Signal(signal) => self.stopped_by(signal),
        })
    }

    /// Notes the signal for the exit status, and gives the error for it.
    pub fn stopped_by(&mut self, (number, name): (i32, &'static str)) -> Error {
        self.signal = Some(number);
        Error::new(Kind::Interrupted, format!("stopped by {name} before the work was done"))
    }
}

enum Ended {
    Failed(Error),
    Signal((i32, &'static str)),
}

/// The runtime of a command: one thread for the network, few for disks.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .build()
        .map_err(|error| Error::io("cannot start the runtime", error))
}

/// Waits for a signal that asks to stop. One that the process was started to
/// ignore stays ignored.
pub async fn signalled() -> (i32, &'static str) {
    let one = async |kind: SignalKind, name| {
        let number = kind.as_raw_value();
        if process::is_ignored_at_start(number) {
            return std::future::pending().await;
        }
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
                (number, name)
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        signal = one(SignalKind::interrupt(), "SIGINT") => signal,
        signal = one(SignalKind::terminate(), "SIGTERM") => signal,
        signal = one(SignalKind::hangup(), "SIGHUP") => signal,
        signal = one(SignalKind::quit(), "SIGQUIT") => signal,
    }
}

/// The homes in which `.walg.*` may be: that of the account, as in WAL-G, then
/// `$HOME`.
fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = account_home().into_iter().collect();
    if let Some(home) =
        std::env::var_os("HOME").map(PathBuf::from).filter(|home| !homes.contains(home))
    {
        homes.push(home);
    }
    homes
}

/// The home that /etc/passwd gives this user. An account that is only in a
/// directory service has its home in `$HOME`.
fn account_home() -> Option<PathBuf> {
    let user = process::user();
    let mut text = String::new();
    std::fs::File::open("/etc/passwd").ok()?.read_to_string(&mut text).ok()?;
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(user))
        .and_then(|fields| fields.get(5).map(PathBuf::from))
}
