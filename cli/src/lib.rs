//! Walport as a library: a program of one's own with one store more is
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     walport::run(walport::registry())
//! }
//! ```
//!
//! with `.with(my_store::BACKEND)` after `registry()`.

// Text for people is put together once per run; that is never hot.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod args;
mod command;
mod logging;
mod open;
mod output;
mod process;
mod program;
mod progress;

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory;
use clap::error::ErrorKind;
use walport_engine::storage::Registry;
use walport_engine::{Error, Kind};

pub use walport_backends::registry;

/// Runs the program on its command line, with these stores. To be called first
/// in `main`: it tunes the allocator.
pub fn run(registry: Registry) -> ExitCode {
    process::start();
    logging::start();
    let table = Arc::new(program::table(&registry));
    let parsed = match args::parse(&table, std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(stop) => return ExitCode::from(stopped(&stop)),
    };
    if parsed.cli.version {
        return told(&version());
    }
    if parsed.cli.command.is_none() {
        return told(&args::Cli::command().render_help().to_string());
    }
    ExitCode::from(program::run(registry, table, parsed))
}

/// Prints what was asked for.
fn told(text: &str) -> ExitCode {
    match output::write(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// `walport version 0.1.0`, the revision and the date it was built from, and
/// the database: WAL-G's form.
fn version() -> String {
    format!(
        "walport version {}\t{}\t{}\tPostgreSQL\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("WALPORT_REVISION").unwrap_or("unknown"),
        option_env!("WALPORT_BUILD_DATE").unwrap_or("unknown"),
    )
}

/// Help goes to stdout and is a success; everything else is the usage on stderr.
fn stopped(stop: &args::Stop) -> u8 {
    match stop {
        args::Stop::Error(error) => logging::error(error),
        args::Stop::Clap(error) => {
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let text = error.render().to_string();
            if help {
                return u8::from(output::write(text.as_bytes()).is_err());
            }
            eprint!("{text}");
        }
    }
    Error::new(Kind::Invalid, "usage").exit_code(strict_was_asked_for())
}

/// Whether strict exit codes are wanted, when the command line itself is wrong:
/// PostgreSQL must not take that for a missing file either.
fn strict_was_asked_for() -> bool {
    std::env::args_os().any(|argument| argument == OsStr::new("--strict-exit-codes"))
        || std::env::var("WALPORT_STRICT_EXIT_CODES")
            .is_ok_and(|value| walport_engine::settings::parse_bool(&value) == Ok(true))
}
