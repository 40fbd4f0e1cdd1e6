//! The runner: selects cases, gives each a prefix of its own, watches that
//! something moves, and leaves nothing behind.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt, pin_mut};
use walport_engine::storage::{Entry, Key, Kind, List, Store};

use crate::case::{Case, cases};
use crate::context::Context;
use crate::data::Progress;
use crate::report::{CaseResult, Outcome, Report};
use crate::subject::Subject;
use crate::watch::{Watched, Written};

/// How much data the cases move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sizes {
    /// Objects of a few MiB, 64 MiB where memory is measured: seconds on a local
    /// store.
    #[default]
    Quick,
    /// Up to 1 GiB in a case, and 2,500 objects.
    Full,
}

type Progressed = Arc<dyn Fn(&CaseResult) + Send + Sync>;

/// How to run the suite.
#[derive(Clone)]
pub struct Options {
    /// Which cases: parts of ids (`put.`), or patterns with `*` (`*.missing`).
    /// Empty selects all.
    pub filter: Vec<String>,
    /// The seed of data, names and order; `None` draws one.
    pub seed: Option<u64>,
    /// How much data the cases move.
    pub sizes: Sizes,
    /// A case fails when nothing moves for this long.
    pub no_progress: Duration,
    /// How many bytes the resident memory of this process may grow while the
    /// memory cases run; `None` skips them. They measure the whole process, so
    /// run them where nothing else runs, and open the store with a budget
    /// below this.
    pub memory: Option<u64>,
    /// Which cases may be skipped, in the form of the filter; `None` allows
    /// every skip. Where a store is known, any other skip is a problem.
    pub expected_skips: Option<Vec<String>>,
    /// Called with each result as it comes.
    pub on_result: Option<Progressed>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Vec::new(),
            seed: None,
            sizes: Sizes::Quick,
            no_progress: Duration::from_secs(60),
            memory: None,
            expected_skips: None,
            on_result: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("filter", &self.filter)
            .field("seed", &self.seed)
            .field("sizes", &self.sizes)
            .field("no_progress", &self.no_progress)
            .field("memory", &self.memory)
            .field("expected_skips", &self.expected_skips)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The cases the filter selects, in order.
    pub fn select(&self) -> Vec<&'static Case> {
        let wanted = |case: &&Case| {
            self.filter.is_empty() || self.filter.iter().any(|pattern| matches(pattern, case.id))
        };
        cases().iter().filter(wanted).collect()
    }
}

/// Whether `id` has `pattern` in it or, where that has a `*`, is like it.
fn matches(pattern: &str, id: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return id.contains(pattern);
    };
    let Some(mut left) = id.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or("");
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

/// Runs the suite. Needs a tokio runtime with time.
pub async fn run(subject: Subject, options: Options) -> Report {
    run_until(subject, options, std::future::pending()).await
}

/// Runs the suite until `stop` is ready (ctrl-c, for instance). The case at
/// work is then broken off, everything is removed, and the report says so.
pub async fn run_until(
    subject: Subject,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Report {
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    // Not from the seed: two runs with one seed must not share a prefix.
    let prefix = Key::foreign(format!("walport-conformance-{:016x}/", fastrand::u64(..)));
    let mut report = Report {
        subject: subject.name.clone(),
        seed,
        prefix: prefix.to_string(),
        results: Vec::new(),
        problems: Vec::new(),
        elapsed: Duration::ZERO,
    };
    let progress = Progress::default();
    let written = Written::default();
    match guarded((subject.open)(), &progress, options.no_progress).await {
        Ok(Ok(inner)) => {
            let store: Store =
                Arc::new(Watched { inner, progress: progress.clone(), written: written.clone() });
            let runner = Runner { subject, options, store, prefix, progress, written, seed };
            runner.all(&mut report, stop).await;
        }
        Ok(Err(error)) => report.problems.push(format!("the store does not open: {error}")),
        Err(why) => report.problems.push(format!("the store does not open: {why}")),
    }
    report.elapsed = began.elapsed();
    report
}

struct Runner {
    subject: Subject,
    options: Options,
    store: Store,
    prefix: Key,
    progress: Progress,
    written: Written,
    seed: u64,
}

impl Runner {
    async fn all(&self, report: &mut Report, stop: impl Future<Output = ()>) {
        let selected = self.options.select();
        if selected.is_empty() {
            report.problems.push(format!("no case matches the filter {:?}", self.options.filter));
        }
        pin_mut!(stop);
        for case in selected {
            let one = self.one(case);
            pin_mut!(one);
            let Either::Left((result, _)) = select(one, &mut stop).await else {
                report.problems.push(format!("the run was stopped during {}", case.id));
                break;
            };
            self.check_skip(&result, &mut report.problems);
            if let Some(tell) = &self.options.on_result {
                tell(&result);
            }
            let ran = !matches!(result.outcome, Outcome::Skipped { .. });
            report.results.push(result);
            if ran && let Err(why) = self.clean(&self.prefix.join(&format!("{}/", case.id))).await {
                report.problems.push(format!("clean-up after {}: {why}", case.id));
            }
        }
        if let Err(why) = self.clean(&self.prefix).await {
            report.problems.push(format!("clean-up of {}: {why}", self.prefix));
        }
    }

    fn check_skip(&self, result: &CaseResult, problems: &mut Vec<String>) {
        if let (Some(expected), Outcome::Skipped { reason }) =
            (&self.options.expected_skips, &result.outcome)
            && !expected.iter().any(|pattern| matches(pattern, result.id))
        {
            problems.push(format!("{} was skipped and should have run: {reason}", result.id));
        }
    }

    async fn one(&self, case: &'static Case) -> CaseResult {
        let began = Instant::now();
        let outcome = match case.missing(&self.subject, &self.options, self.store.limits()) {
            Some(reason) => Outcome::Skipped { reason },
            None => self.tried(case).await,
        };
        CaseResult { id: case.id, about: case.about, outcome, elapsed: began.elapsed() }
    }

    async fn tried(&self, case: &'static Case) -> Outcome {
        // Each case has its own stream of random numbers, so that a filtered
        // run repeats what the full run did.
        let salt =
            case.id.bytes().fold(self.seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
        let context = Context {
            subject: self.subject.clone(),
            store: Arc::clone(&self.store),
            prefix: self.prefix.join(&format!("{}/", case.id)),
            sizes: self.options.sizes,
            memory: self.options.memory,
            progress: self.progress.clone(),
            written: self.written.clone(),
            rng: Mutex::new(fastrand::Rng::with_seed(salt)),
        };
        let outcome = guarded(case.call(&context), &self.progress, self.options.no_progress).await;
        if let Some(faulty) = &self.subject.faulty {
            faulty.faults.disarm();
        }
        match outcome {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(fail)) => Outcome::Failed { why: fail.0 },
            Err(why) => Outcome::Failed { why },
        }
    }

    /// Removes what is listed below `prefix` and what we know we wrote.
    async fn clean(&self, prefix: &Key) -> Result<(), String> {
        let sweep = guarded(self.sweep(prefix), &self.progress, self.options.no_progress).await?;
        sweep.map_err(|error| error.to_string())
    }

    async fn sweep(&self, prefix: &Key) -> walport_engine::Result<()> {
        let mut keys: Vec<Key> =
            self.written.take().into_iter().filter(|key| !key.is_prefix()).collect();
        keys.retain(|key| key.strip_prefix(&self.prefix).is_some());
        let mut listed = self.store.list(prefix, List::recursive());
        while let Some(entry) = listed.next().await {
            if let Entry::Object(key, _) = entry? {
                keys.push(key);
            }
        }
        drop(listed);
        keys.sort();
        keys.dedup();
        for batch in keys.chunks(1000) {
            for deleted in self.store.delete(batch).await? {
                match deleted.outcome {
                    // Cases try keys that the store rightly refuses.
                    Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        }
        let left = self.store.list(prefix, List::recursive()).next().await.transpose()?;
        match left {
            Some(entry) => Err(walport_engine::Error::new(
                Kind::Corrupt,
                format!("{} is still listed after it was deleted", entry.key()),
            )),
            None => Ok(()),
        }
    }
}

/// Runs `work` until it ends, panics, or nothing moves for `limit`.
async fn guarded<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    limit: Duration,
) -> Result<T, String> {
    let watch = async {
        let mut seen = (progress.count(), Instant::now());
        loop {
            tokio::time::sleep((limit / 10).min(Duration::from_millis(200))).await;
            let now = progress.count();
            if now != seen.0 {
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > limit {
                return;
            }
        }
    };
    let work = AssertUnwindSafe(work).catch_unwind();
    pin_mut!(work, watch);
    match select(work, watch).await {
        Either::Left((Ok(done), _)) => Ok(done),
        Either::Left((Err(panic), _)) => {
            Err(format!("the store panicked: {}", panic_text(&*panic)))
        }
        Either::Right(_) => Err(format!("nothing moved for {:.1} s", limit.as_secs_f64())),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parts_or_patterns() {
        for (pattern, id) in [
            ("put.", "put.atomic"),
            ("atomic", "put.atomic"),
            ("*.missing", "get.missing"),
            ("put.*c", "put.atomic"),
            ("*", "x"),
        ] {
            assert!(matches(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [
            ("get.", "put.atomic"),
            ("*.missing", "get.missing.not"),
            ("atomic*", "put.atomic"),
            ("p*z*", "put.atomic"),
        ] {
            assert!(!matches(pattern, id), "{pattern} {id}");
        }
    }
}
