//! `config check`: what is in effect, where it came from, and whether it works
//! as far as that can be said without the network.

use serde_json::json;
use walport_engine::memory::{Operation, Plan};
use walport_engine::settings::{Setting, Source};
use walport_engine::{Error, Kind, Result};

use crate::output::{self, Form};
use crate::program::{Outcome, Program};
use crate::{logging, open};

/// The arguments of `config`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print each effective value and where it came from, and check them all
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// JSON
    #[arg(long)]
    json: bool,
    /// With --json, indented
    #[arg(long)]
    pretty: bool,
}

/// Runs `config check`.
pub fn run(args: &Args, program: &mut Program) -> Result<Outcome> {
    let What::Check(args) = &args.what;
    logging::format(&program.settings);
    let rows = rows(program);
    let text = if args.json {
        output::json(&rows, args.pretty)?
    } else {
        let cells: Vec<_> = rows
            .iter()
            .map(|row| vec![text(row, "name"), text(row, "value"), text(row, "source")])
            .collect();
        output::table::render(
            &["setting", "value", "source"],
            &["Setting", "Value", "Source"],
            &cells,
            Form::new(args.pretty, false),
        )
    };
    output::write(&text)?;

    for warning in program.warnings.iter().chain(&notes(program)) {
        logging::warning(warning);
    }
    let mut problems = std::mem::take(&mut program.problems);
    problems.extend(checks(program));
    for problem in &problems {
        logging::error(problem);
    }
    match problems.len() {
        0 => Ok(Outcome::Done),
        1 => Err(Error::new(Kind::Config, "the configuration has a problem")),
        count => Err(Error::new(Kind::Config, format!("the configuration has {count} problems"))),
    }
}

fn text(row: &serde_json::Value, member: &str) -> String {
    row[member].as_str().unwrap_or_default().to_owned()
}

/// Every effective value, by name; those of failover storages after the rest.
fn rows(program: &Program) -> Vec<serde_json::Value> {
    let settings = &program.settings;
    let mut rows: Vec<_> = settings
        .iter()
        .map(|(row, value, source)| line(row, row.name.to_owned(), value, source))
        .collect();
    for setting in settings.table().rows() {
        for block in settings.block_names(setting.name) {
            let entries = settings.block_entries(setting.name, block);
            rows.extend(entries.map(|(row, value, source)| {
                line(row, format!("{}.{block}.{}", setting.name, row.name), value, source)
            }));
        }
    }
    rows
}

fn line(row: &Setting, name: String, value: &str, source: &Source) -> serde_json::Value {
    json!({ "name": name, "value": output::masked(row, value), "source": source.to_string() })
}

/// What may surprise, but is not wrong.
fn notes(program: &Program) -> Vec<Error> {
    let settings = &program.settings;
    let mut notes: Vec<_> = settings
        .iter()
        .filter(|(row, _, source)| row.pending && **source != Source::Default)
        .map(|(row, _, _)| {
            Error::new(Kind::Config, format!("{} is set, and has no effect so far", row.name))
        })
        .collect();
    let prefixes: Vec<_> = program
        .registry
        .backends()
        .iter()
        .map(|backend| backend.prefix)
        .filter(|prefix| settings.is_set(prefix))
        .collect();
    if let [used, ignored, ..] = prefixes[..] {
        notes.push(
            Error::new(Kind::Config, format!("{used} is used, and {ignored} is ignored"))
                .with_hint("Set only one of them, or put the other into WALG_FAILOVER_STORAGES."),
        );
    }
    notes
}

/// What would stop a command before it reaches the network.
fn checks(program: &Program) -> Vec<Error> {
    let settings = &program.settings;
    let mut found = Vec::new();
    found.extend(open::target(program, None).err());
    for name in settings.block_names("WALG_FAILOVER_STORAGES") {
        found.extend(open::target(program, Some(name)).err());
    }
    found.extend(logging::check(settings).err());
    let operations =
        [Operation::WalPush, Operation::WalFetch, Operation::BackupPush, Operation::BackupFetch];
    let plans: Vec<_> =
        operations.iter().map(|operation| Plan::derive(settings, *operation)).collect();
    if let Some(plan) = plans.iter().find_map(|plan| plan.as_ref().ok()) {
        found.extend(open::codecs(settings, plan).err());
    }
    // One message about memory is enough: the last operation needs the most.
    found.extend(plans.into_iter().filter_map(Result::err).last());
    found
}
