//! The entry for one test of one backend.

use std::fmt;
use std::sync::Arc;

use crate::report::Report;
use crate::run::{Options, run};
use crate::subject::Subject;

/// A store that does not conform. Its `Debug` form, which is what a failed test
/// prints, is the whole report.
pub struct Unfit(Box<Report>);

impl Unfit {
    /// The report.
    pub fn report(&self) -> &Report {
        &self.0
    }
}

impl fmt::Debug for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Unfit {}

/// Runs the suite with the default options on a runtime of its own, prints each
/// result, and fails with the report if the store does not conform. Return it
/// from a `#[test]`.
///
/// `WALPORT_CONFORMANCE_SEED` and `WALPORT_CONFORMANCE_FILTER` (ids or patterns,
/// comma-separated) repeat a failed run.
pub fn check(subject: Subject) -> Result<(), Unfit> {
    check_with(subject, Options::default()).map(drop)
}

/// The same with options; gives the report back.
pub fn check_with(subject: Subject, mut options: Options) -> Result<Report, Unfit> {
    if options.seed.is_none() {
        options.seed =
            std::env::var("WALPORT_CONFORMANCE_SEED").ok().and_then(|text| text.parse().ok());
    }
    if let Ok(filter) = std::env::var("WALPORT_CONFORMANCE_FILTER") {
        options.filter.extend(filter.split(',').map(str::to_owned));
    }
    if options.on_result.is_none() {
        options.on_result = Some(Arc::new(|result| println!("{result}")));
    }
    let report = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(subject, options)),
        Err(error) => Report {
            subject: subject.name,
            seed: 0,
            prefix: String::new(),
            results: Vec::new(),
            problems: vec![format!("no runtime: {error}")],
            elapsed: std::time::Duration::ZERO,
        },
    };
    println!("{}", report.summary());
    if report.is_success() { Ok(report) } else { Err(Unfit(Box::new(report))) }
}
