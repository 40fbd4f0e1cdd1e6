//! `wal-push`: archives one WAL file.

use std::path::PathBuf;

use walport_engine::memory::Operation;
use walport_engine::{Result, wal};

use crate::program::{Outcome, Program};

/// The arguments of `wal-push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The WAL file, `%p` in archive_command
    wal_filepath: PathBuf,
    /// Use only the storage of this name
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Archives the file.
pub fn run(args: &Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    program.job(Operation::WalPush, async |context| {
        wal::push::push(context, &args.wal_filepath).await
    })?;
    Ok(Outcome::Done)
}
