//! The conformance suite on OpenSSH's server, through a proxy that can fail.

use std::net::SocketAddr;

use walport_conformance::fault::{Faults, Proxy};
use walport_conformance::{Options, Report, Subject, run};

use crate::open;
use crate::servers::{Server, borrowed, known_hosts, openssh};

async fn suite(name: &str, server: &Server, skips: &[&str]) -> Report {
    let address: SocketAddr = ([127, 0, 0, 1], server.port).into();
    let faults = Faults::new();
    let broken = Proxy::start(address, faults.clone()).await.unwrap();
    let port = broken.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let (direct, indirect) = (server.target(server.port), server.target(port));
    let login = server.login.clone();
    let mut login_2 = server.login.clone();
    login_2.retain(|(name, _)| *name != "WALPORT_SSH_KNOWN_HOSTS");
    let known = known_hosts(server.folder.path(), port, &server.folder.path().join("host"));
    login_2.push(("WALPORT_SSH_KNOWN_HOSTS", known.display().to_string()));
    let subject = Subject::new(name, move || {
        let (target, login) = (direct.clone(), login.clone());
        Box::pin(async move { open(&target, &borrowed(&login)).await })
    })
    .with_faults(faults, None, move || {
        let (target, login) = (indirect.clone(), login_2.clone());
        Box::pin(async move { open(&target, &borrowed(&login)).await })
    });
    let options = Options {
        expected_skips: Some(skips.iter().map(|&id| id.to_owned()).collect()),
        ..Options::default()
    };
    run(subject, options).await
}

#[tokio::test]
async fn openssh_passes_the_suite() {
    let server = openssh("ed25519");
    let skips = [
        "copy.bytes",
        "copy.missing",
        "delete.retained",
        "put.no-leftovers",
        "list.requests",
        "error.throttled",
        "error.internal",
        "error.denied",
        "error.expired",
        "attributes.accepted",
        "memory.",
    ];
    let report = suite("openssh", &server, &skips).await;
    assert!(report.is_success(), "{report}");
}
