//! The suite fails on stores that are broken on purpose: on the right cases,
//! and on no others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use walport_conformance::broken::{Broken, Lie};
use walport_conformance::{Options, Outcome, Subject, run};
use walport_engine::storage::{
    Body, Deleted, Entry, Get, InMemory, Key, Limits, List, Meta, Object, Put, Result, Storage,
    Store, Stored,
};

fn subject(lie: Lie) -> Subject {
    let base: Store = Arc::new(InMemory::new());
    Subject::new(format!("{lie:?}"), move || {
        let store: Store = Arc::new(Broken::new(base.clone(), lie));
        std::future::ready(Ok(store)).boxed()
    })
}

/// Every second lie, from the first or from the second on: two tests, so that
/// two cores have work.
async fn each_lie_fails_its_cases_and_no_others(first: usize) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut wrong = Vec::new();
    let lies: Vec<_> = Lie::ALL.iter().skip(first).step_by(2).collect();
    // Several at a time, since a run waits for the clock of time.sane.
    for some in lies.chunks(6) {
        let runs = some
            .iter()
            .map(|(lie, _)| run(subject(*lie), Options { seed: Some(seed), ..Options::default() }));
        let reports = futures_util::future::join_all(runs).await;
        for (report, (lie, expected)) in reports.into_iter().zip(some) {
            assert!(!report.is_success(), "{lie:?} was not found");
            if report.failures() != *expected {
                let failed = report.failures();
                wrong.push(format!("{lie:?}: expected {expected:?}, failed {failed:?}\n{report}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn half_of_the_lies_are_found() {
    each_lie_fails_its_cases_and_no_others(0).await;
}

#[tokio::test]
async fn the_other_half_of_the_lies_are_found() {
    each_lie_fails_its_cases_and_no_others(1).await;
}

#[test]
fn every_lie_is_tried() {
    let mut seen = std::collections::HashSet::new();
    for (lie, expected) in Lie::ALL {
        assert!(seen.insert(lie) && !expected.is_empty(), "{lie:?}");
        for id in *expected {
            assert!(
                walport_conformance::cases().iter().any(|case| case.id == *id),
                "{lie:?} names {id}"
            );
        }
    }
}

/// A store that hangs in `head`, or panics there.
#[derive(Debug)]
struct Stuck {
    inner: InMemory,
    panics: bool,
}

#[async_trait]
impl Storage for Stuck {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        self.inner.put(key, body, how).await
    }
    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        self.inner.get(key, how).await
    }
    async fn head(&self, _key: &Key) -> Result<Meta> {
        assert!(!self.panics, "head fell over");
        std::future::pending().await
    }
    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        self.inner.list(prefix, how)
    }
    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        self.inner.delete(keys).await
    }
    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.inner.copy(from, to).await
    }
}

async fn why_roundtrip_fails(panics: bool) -> (String, bool) {
    let store: Store = Arc::new(Stuck { inner: InMemory::new(), panics });
    let subject = Subject::new("stuck", {
        let store = store.clone();
        move || std::future::ready(Ok(store.clone())).boxed()
    });
    let options = Options {
        filter: vec!["put.roundtrip".into(), "list.empty".into()],
        no_progress: Duration::from_millis(300),
        ..Options::default()
    };
    let report = run(subject, options).await;
    let Outcome::Failed { why } = &report.results[0].outcome else { panic!("{report}") };
    // What it wrote is removed, and the cases after it run.
    assert_eq!(report.results[1].outcome, Outcome::Passed, "{report}");
    let left =
        walport_engine::storage::StorageExt::list_all(&*store, &Key::root(), List::recursive())
            .await;
    (why.clone(), left.is_ok_and(|left| left.is_empty()))
}

#[tokio::test]
async fn a_store_that_hangs_fails_when_nothing_moves() {
    let (why, clean) = why_roundtrip_fails(false).await;
    assert!(why.contains("nothing moved for 0.3 s"), "{why}");
    assert!(clean);
}

#[tokio::test]
async fn a_store_that_panics_fails_and_the_suite_goes_on() {
    let (why, clean) = why_roundtrip_fails(true).await;
    assert!(why.contains("panicked: head fell over"), "{why}");
    assert!(clean);
}
