//! `wal-fetch`: fetches one WAL file.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use walport_engine::memory::Operation;
use walport_engine::settings::Source;
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
        Fetched::Found => {
            prefetch(args, program);
            Outcome::Done
        }
        Fetched::Missing => Outcome::WalMissing,
    })
}

/// Starts a process of its own that fetches what recovery will ask for next.
/// The file asked for is there already, so a failure here is only logged.
fn prefetch(args: &Args, program: &Program) {
    let name = args.wal_name.as_str();
    let wanted = program.settings.number("WALG_DOWNLOAD_CONCURRENCY").unwrap_or(1) > 1;
    if !wanted || name.contains("history") || name.contains("partial") || name.contains(".backup") {
        return;
    }
    let mut child = match std::env::current_exe() {
        Ok(program) => Command::new(program),
        Err(error) => return log::warn!("nothing is fetched ahead: {error}"),
    };
    child.args(["wal-prefetch", name]).arg(&args.destination_filename);
    // Settings of the command line go along in the environment, where they are
    // not in the list of processes.
    for (row, value, source) in program.settings.iter() {
        match source {
            Source::Flag(_) => drop(child.env(row.name, value)),
            Source::File(path, _) => drop(child.env("WALG_CONFIG_PATH", path)),
            Source::Default | Source::Environment(_) => {}
        }
    }
    let logged = log::max_level() >= log::LevelFilter::Debug;
    child.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    child.stderr(if logged { Stdio::inherit() } else { Stdio::null() });
    if let Err(error) = child.spawn() {
        log::warn!("nothing is fetched ahead: {error}");
    }
}
