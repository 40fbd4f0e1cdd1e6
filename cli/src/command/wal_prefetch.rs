//! `wal-prefetch`: fetches the next WAL files ahead; started by `wal-fetch`.

use std::path::PathBuf;

use walport_engine::memory::Operation;
use walport_engine::{Result, wal};

use crate::program::{Outcome, Program};

/// The arguments of `wal-prefetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The WAL file that was asked for last
    wal_name: String,
    /// Where it was written
    prefetch_location: PathBuf,
    /// Use only the storage of this name
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Fetches ahead.
pub fn run(args: &Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    program.job(Operation::WalFetch, async |context| {
        wal::prefetch::prefetch(context, &args.wal_name, &args.prefetch_location).await
    })?;
    Ok(Outcome::Done)
}
