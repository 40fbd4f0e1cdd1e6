//! `conformance`: tells whether a store can be trusted with backups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::json;
use walport_conformance::{Options, Report, Sizes, Subject};
use walport_engine::memory::{Budget, Operation, Plan};
use walport_engine::storage::Open;
use walport_engine::{Error, Kind, Result};

use crate::open::{self, Target};
use crate::output;
use crate::program::{self, Outcome, Program};

/// The arguments of `conformance`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

impl Args {
    /// Whether a store is opened, so that a wrong setting must stop the run.
    pub fn needs_settings(&self) -> bool {
        matches!(self.what, What::Run(_))
    }
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the cases: their ids, what each proves, and what it needs
    List(ListArgs),
    /// Run the suite on a store; everything it writes is under a random prefix and removed again
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only these cases: parts of ids, or patterns with *
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    filter: Vec<String>,
    /// JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The store: a URL or a path; the configured one without it
    url: Option<String>,
    /// Only these cases: parts of ids, or patterns with *
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    filter: Vec<String>,
    /// Repeat the run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
    /// Also write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Objects of up to 1 GiB, and 2,500 of them
    #[arg(long)]
    full: bool,
    /// Fail if any other case than these is skipped: as in --filter, or `none`
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only_skip: Option<Vec<String>>,
}

/// Runs `conformance list` or `conformance run`.
pub fn run(args: Args, program: &mut Program) -> Result<Outcome> {
    match args.what {
        What::List(args) => list(args),
        What::Run(args) => suite(args, program),
    }
}

fn list(args: ListArgs) -> Result<Outcome> {
    let options = Options { filter: args.filter, ..Options::default() };
    let selected = options.select();
    let needs = |case: &walport_conformance::Case| -> Vec<String> {
        case.needs.iter().map(ToString::to_string).collect()
    };
    let text = if args.json {
        let rows: Vec<_> = selected
            .iter()
            .map(|case| json!({ "id": case.id, "about": case.about, "needs": needs(case) }))
            .collect();
        output::json(&rows, false)?
    } else {
        let line = |case: &&walport_conformance::Case| {
            let needs = needs(case);
            let needs = if needs.is_empty() {
                String::new()
            } else {
                format!(" (needs {})", needs.join(", "))
            };
            format!("{:<22} {}{needs}\n", case.id, case.about)
        };
        selected.iter().map(line).collect::<String>().into_bytes()
    };
    output::write(&text)?;
    Ok(Outcome::Done)
}

fn suite(args: RunArgs, program: &mut Program) -> Result<Outcome> {
    let target = match &args.url {
        None => open::target(program, None)?,
        Some(url) => Target {
            backend: *program.registry.by_url(url)?,
            url: url.clone(),
            name: url.clone(),
            settings: program.settings.clone(),
        },
    };
    let plan = Plan::derive(&target.settings, Operation::BackupPush)?;
    let json = args.json;
    let options = Options {
        filter: args.filter,
        seed: args.seed,
        sizes: if args.full { Sizes::Full } else { Sizes::Quick },
        memory: Some(plan.buffers),
        expected_skips: args.only_skip,
        on_result: Some(Arc::new(move |result| {
            if json {
                log::info!("{result}");
            } else if let Err(error) = output::write(format!("{result}\n").as_bytes()) {
                log::warn!("{error}");
            }
        })),
        ..Options::default()
    };
    let runtime = program::runtime()?;
    let mut signal = None;
    let stop = async { signal = Some(program::signalled().await) };
    let subject = subject(target, plan.buffers);
    let report = runtime.block_on(walport_conformance::run_until(subject, options, stop));
    let text =
        if json { output::json(&report.to_json(), false)? } else { report.summary().into_bytes() };
    output::write(&text)?;
    if let Some(path) = &args.junit {
        write_junit(path, &report)?;
    }
    if let Some(signal) = signal {
        return Err(program.stopped_by(signal));
    }
    verdict(&report)
}

/// The store as the suite opens it: bare, without retries, again and again.
fn subject(target: Target, buffers: u64) -> Subject {
    let name = target.url.clone();
    let target = Arc::new(target);
    Subject::new(name, move || {
        let target = Arc::clone(&target);
        async move {
            let budget = Budget::new(buffers);
            (target.backend.open)(Open {
                target: &target.url,
                settings: &target.settings,
                budget: &budget,
                retries: 0,
            })
            .await
        }
        .boxed()
    })
}

fn write_junit(path: &Path, report: &Report) -> Result<()> {
    std::fs::write(path, report.to_junit())
        .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
}

fn verdict(report: &Report) -> Result<Outcome> {
    if report.is_success() {
        return Ok(Outcome::Done);
    }
    let mut why = Vec::new();
    if report.failed() > 0 {
        why.push(format!("{} of {} cases failed", report.failed(), report.results.len()));
    } else if report.passed() == 0 {
        why.push("no case passed".to_owned());
    }
    why.extend(report.problems.first().cloned());
    Err(Error::new(Kind::Corrupt, format!("the store does not conform: {}", why.join("; ")))
        .with_hint(format!("The same run again is --seed {}.", report.seed)))
}
