//! The cases that break connections: they pass on an honest client of a small
//! HTTP store, and each fails on a client that gets that very thing wrong.
#![allow(clippy::unwrap_used, clippy::format_collect, clippy::format_push_string)]

mod client;
mod server;

use std::sync::Arc;

use client::{Client, Flaw};
use futures_util::FutureExt;
use walport_conformance::fault::{Dialect, Faults, Proxy};
use walport_conformance::{Need, Options, Report, Subject, cases, run};
use walport_engine::storage::Store;

/// The cases that need a connection to break or to count on.
fn network_cases() -> Vec<String> {
    let needs = [Need::Faults, Need::Dialect, Need::Requests];
    let networked =
        cases().iter().filter(|case| case.needs.iter().any(|need| needs.contains(need)));
    networked.map(|case| case.id.to_owned()).collect()
}

async fn report(flaw: Flaw) -> Report {
    let server = server::start().await;
    let counted = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    let broken = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    let open = move |addr| {
        move || {
            let store: Store = Arc::new(Client::new(addr, flaw));
            std::future::ready(Ok(store)).boxed()
        }
    };
    let requests = counted.faults().clone();
    let subject = Subject::new(format!("{flaw:?}"), open(counted.addr()))
        .with_requests(move || requests.requests())
        .with_faults(broken.faults().clone(), Some(Dialect::S3), open(broken.addr()));
    let options =
        Options { filter: network_cases(), expected_skips: Some(Vec::new()), ..Options::default() };
    run(subject, options).await
}

#[tokio::test]
async fn an_honest_client_passes_every_network_case() {
    let report = report(Flaw::None).await;
    assert!(report.is_success(), "{report}");
    assert_eq!(report.passed(), network_cases().len());
    assert!(report.passed() >= 11, "{report}");
}

#[tokio::test]
async fn each_flaw_fails_its_cases_and_no_others() {
    let mut wrong = Vec::new();
    let reports = Flaw::ALL.iter().map(|(flaw, _)| report(*flaw));
    let reports = futures_util::future::join_all(reports).await;
    for (report, (flaw, expected)) in reports.into_iter().zip(Flaw::ALL) {
        if report.failures() != *expected {
            wrong.push(format!(
                "{flaw:?}: expected {expected:?}, failed {:?}\n{report}",
                report.failures()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
