//! `wal-fetch`: fetches one WAL file.

use std::path::PathBuf;

use walport_engine::memory::Operation;
use walport_engine::wal::fetch::Fetched;
use walport_engine::{Result, wal};

use crate::program::{Outcome, Program};

/// The arguments of `wal-fetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of the WAL file, `%f` in restore_command
    wal_name: String,
    /// Where to write it, `%p` in restore_command
    destination_filename: PathBuf,
    /// Use only the storage of this name
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Fetches the file.
pub fn run(args: &Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    let fetched = program.job(Operation::WalFetch, async |context| {
        wal::fetch::fetch(context, &args.wal_name, &args.destination_filename).await
    })?;
    Ok(match fetched {
        Fetched::Found => Outcome::Done,
        Fetched::Missing => Outcome::WalMissing,
    })
}
