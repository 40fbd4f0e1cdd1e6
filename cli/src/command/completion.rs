//! `completion`: a script that completes commands and flags in a shell.

use clap::CommandFactory;
use clap_complete::Shell;
use walport_engine::Result;

use crate::args::Cli;
use crate::output;
use crate::program::Outcome;

/// The arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Name,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<Outcome> {
    let shell = match args.shell {
        Name::Bash => Shell::Bash,
        Name::Zsh => Shell::Zsh,
        Name::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "walport", &mut script);
    output::write(&script)?;
    Ok(Outcome::Done)
}
