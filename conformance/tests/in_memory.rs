//! The suite passes on the store in memory, and its skips are the known ones.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use futures_util::FutureExt;
use walport_conformance::{Options, Outcome, Subject, Unfit, check_with, run, run_until};
use walport_engine::storage::{InMemory, Limits, Store};

fn subject(store: &Arc<InMemory>) -> Subject {
    let store: Store = store.clone();
    Subject::new("memory", move || std::future::ready(Ok(store.clone())).boxed())
}

/// What needs a network, a bucket with object lock, or a process of its own.
const HOOKS: &[&str] = &[
    "put.no-leftovers",
    "create.ambiguous",
    "get.truncated",
    "get.slow",
    "get.resumed",
    "list.requests",
    "delete.retained",
    "error.reset",
    "error.broken-upload",
    "error.throttled",
    "error.internal",
    "error.denied",
    "error.expired",
    "attributes.accepted",
    "memory.bounded",
    "memory.concurrent",
];

fn ids(skips: &[&str]) -> Vec<String> {
    skips.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn the_store_in_memory_conforms_and_is_left_empty() -> Result<(), Unfit> {
    let store = Arc::new(InMemory::new());
    let options = Options { expected_skips: Some(ids(HOOKS)), ..Options::default() };
    let report = check_with(subject(&store), options)?;
    assert_eq!(report.skips(), HOOKS);
    assert_eq!(store.names(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_store_that_declares_nothing_is_skipped_where_it_matters() {
    let limits = Limits {
        create_if_absent: false,
        server_side_copy: false,
        pinned_reads: false,
        ordered_list: false,
        atomic_put: false,
        atomic_replace: false,
        ..Limits::unlimited()
    };
    let store = Arc::new(InMemory::with_limits(limits));
    let report = run(subject(&store), Options::default()).await;
    assert_eq!(report.failures(), Vec::<&str>::new(), "{report}");
    for id in [
        "create.race",
        "copy.bytes",
        "get.pinned",
        "list.order",
        "put.atomic",
        "put.replace-atomic",
    ] {
        let result = report.results.iter().find(|result| result.id == id).unwrap();
        assert!(
            matches!(&result.outcome, Outcome::Skipped { reason } if reason.contains("is not declared")),
            "{result}"
        );
    }
}

#[tokio::test]
async fn an_unexpected_skip_voids_the_run() {
    let store = Arc::new(InMemory::new());
    let options = Options {
        filter: vec!["put.roundtrip".into(), "get.slow".into()],
        expected_skips: Some(Vec::new()),
        ..Options::default()
    };
    let report = run(subject(&store), options).await;
    assert_eq!((report.passed(), report.failed(), report.skipped()), (1, 0, 1));
    assert!(!report.is_success(), "{report}");
    assert!(report.problems[0].contains("get.slow"), "{report}");
}

#[tokio::test]
async fn a_seed_repeats_a_run_under_another_prefix() {
    let mut bytes = Vec::new();
    let mut prefixes = Vec::new();
    for _ in 0..2 {
        let store = Arc::new(InMemory::new());
        let seen = store.clone();
        // Looks at the objects before the clean-up of the case.
        let (tell, told) = std::sync::mpsc::channel();
        let options = Options {
            filter: vec!["put.roundtrip".into()],
            seed: Some(7),
            on_result: Some(Arc::new(move |_| {
                let objects: Vec<_> = seen.names().iter().map(|name| seen.bytes(name)).collect();
                let _ = tell.send(objects);
            })),
            ..Options::default()
        };
        let report = run(subject(&store), options).await;
        bytes.push(told.recv().unwrap());
        prefixes.push(report.prefix);
    }
    assert!(!bytes[0].is_empty());
    assert_eq!(bytes[0], bytes[1]);
    assert_ne!(prefixes[0], prefixes[1]);
}

#[tokio::test]
async fn a_stopped_run_cleans_up_and_says_so() {
    let store = Arc::new(InMemory::new());
    let seen = store.clone();
    let stop = async move {
        while seen.names().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let options =
        Options { filter: vec!["put.sizes".into(), "put.durable".into()], ..Options::default() };
    let report = run_until(subject(&store), options, stop).await;
    assert!(report.problems[0].contains("stopped during put.sizes"), "{report}");
    assert!(report.results.is_empty() && !report.is_success());
    assert_eq!(store.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_filter_that_selects_nothing_is_a_problem() {
    let options = Options { filter: vec!["no.such.case".into()], ..Options::default() };
    let report = run(subject(&Arc::new(InMemory::new())), options).await;
    assert!(!report.is_success() && report.problems[0].contains("no case matches"), "{report}");
}
