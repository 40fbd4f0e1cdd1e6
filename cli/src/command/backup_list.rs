//! `backup-list`: which base backups there are.

use walport_engine::Result;
use walport_engine::backup::list::list;
use walport_engine::memory::Operation;

use crate::output::{self, Form};
use crate::program::{Outcome, Program};

/// The arguments of `backup-list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A table; with --json, indented
    #[arg(long)]
    pretty: bool,
    /// JSON
    #[arg(long)]
    json: bool,
    /// Times, places and sizes, too
    #[arg(long)]
    detail: bool,
    /// List this storage only
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Lists the backups.
pub fn run(args: &Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    let backups =
        program.job(Operation::Light, async |context| list(context, args.detail).await)?;
    if backups.is_empty() && !args.json {
        log::info!("No backups found");
    }
    output::write(&output::backups::render(&backups, Form::new(args.pretty, args.json))?)?;
    Ok(Outcome::Done)
}
