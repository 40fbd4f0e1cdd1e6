//! The commands: one file each, with its arguments and what it does.

pub mod backup_fetch;
pub mod backup_list;
pub mod backup_push;
pub mod completion;
pub mod config;
pub mod conformance;
pub mod docs;
pub mod flags;
pub mod wal_fetch;
pub mod wal_prefetch;
pub mod wal_push;

use clap::Subcommand;
use walport_engine::Result;

use crate::program::{Outcome, Program};

/// Every command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Archive a WAL file: archive_command = 'walport wal-push %p'
    WalPush(wal_push::Args),
    /// Fetch a WAL file: restore_command = 'walport wal-fetch %f %p'
    WalFetch(wal_fetch::Args),
    /// Fetch the next WAL files ahead; started by wal-fetch
    #[command(hide = true)]
    WalPrefetch(wal_prefetch::Args),
    /// Take a base backup
    BackupPush(backup_push::Args),
    /// Restore a base backup into an empty directory
    BackupFetch(backup_fetch::Args),
    /// List base backups
    BackupList(backup_list::Args),
    /// Check the configuration
    Config(config::Args),
    /// Tell whether a store can be trusted with backups
    Conformance(conformance::Args),
    /// List every setting that is also a flag
    Flags,
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print generated documentation
    #[command(hide = true)]
    Docs(docs::Args),
}

impl Command {
    /// Whether the command works with the settings, so that a wrong one must
    /// stop it before it begins.
    pub fn needs_settings(&self) -> bool {
        match self {
            Command::Config(_) | Command::Flags | Command::Completion(_) | Command::Docs(_) => {
                false
            }
            Command::Conformance(args) => args.needs_settings(),
            _ => true,
        }
    }

    /// Whether nobody waits for the command, so that it logs for developers only.
    pub fn is_in_background(&self) -> bool {
        matches!(self, Command::WalPrefetch(_))
    }

    /// Runs the command.
    pub fn run(self, program: &mut Program) -> Result<Outcome> {
        match self {
            Command::WalPush(args) => wal_push::run(&args, program),
            Command::WalFetch(args) => wal_fetch::run(&args, program),
            Command::WalPrefetch(args) => wal_prefetch::run(&args, program),
            Command::BackupPush(args) => backup_push::run(args, program),
            Command::BackupFetch(args) => backup_fetch::run(args, program),
            Command::BackupList(args) => backup_list::run(&args, program),
            Command::Config(args) => config::run(&args, program),
            Command::Conformance(args) => conformance::run(args, program),
            Command::Flags => flags::run(program),
            Command::Completion(args) => completion::run(&args),
            Command::Docs(args) => docs::run(&args, program),
        }
    }
}

/// Checks that a flag's value is a JSON document.
fn check_json(flag: &str, text: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| {
        walport_engine::Error::new(
            walport_engine::Kind::Invalid,
            format!("{flag} must be a JSON document: {error}"),
        )
        .with_hint("Mind the shell's quotes: a JSON string needs its own.")
    })
}
