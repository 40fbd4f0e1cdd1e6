//! The conformance suite on both servers, through a proxy that can fail.

use std::net::SocketAddr;
use std::sync::Arc;

use walport_backends::s3::S3;
use walport_conformance::fault::{Dialect, Faults, Proxy};
use walport_conformance::{Options, Report, Subject, run};
use walport_engine::storage::{Result, Store};

use crate::servers::{Server, s3s, versitygw};
use crate::{KEYS, open};

async fn opened(
    target: &'static str,
    endpoint: String,
    more: Vec<(&'static str, &'static str)>,
) -> Result<S3> {
    let own = [("AWS_ENDPOINT", endpoint.as_str()), ("S3_MAX_PART_SIZE", "5242880")];
    let values: Vec<_> = own.iter().chain(&KEYS).chain(&more).copied().collect();
    open(target, &values, 0).await
}

async fn suite(
    name: &str,
    server: &Server,
    more: &[(&'static str, &'static str)],
    tells_unfinished: bool,
    skips: &[&str],
) -> Report {
    let address: SocketAddr = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    // The bucket's name is short, and there is no path: s3s-fs has little room for keys.
    let target = "s3://bkt";
    let (counted, faults) = (Faults::new(), Faults::new());
    let (plain, broken) = (
        Proxy::start(address, counted.clone()).await.unwrap(),
        Proxy::start(address, faults.clone()).await.unwrap(),
    );
    let (direct, indirect) = (plain.url(), broken.url());
    let (settings, settings_2, settings_3, own) =
        (more.to_vec(), more.to_vec(), more.to_vec(), server.endpoint.clone());
    let mut subject = Subject::new(name, move || {
        let store = opened(target, direct.clone(), settings.clone());
        Box::pin(async move { Ok(Arc::new(store.await?) as Store) })
    })
    .with_requests(move || counted.requests())
    .with_faults(faults, Some(Dialect::S3), move || {
        let store = opened(target, indirect.clone(), settings_2.clone());
        Box::pin(async move { Ok(Arc::new(store.await?) as Store) })
    });
    if tells_unfinished {
        subject = subject.with_unfinished(move |prefix| {
            let store = opened(target, own.clone(), settings_3.clone());
            Box::pin(async move {
                let found = store.await?.unfinished(&prefix).await?;
                Ok(found.into_iter().map(|one| one.key.to_string()).collect())
            })
        });
    }
    let options = Options {
        expected_skips: Some(skips.iter().map(|&id| id.to_owned()).collect()),
        ..Options::default()
    };
    run(subject, options).await
}

/// s3s-fs keeps objects as files, and that shows: what is a folder there cannot
/// be asked for as an object (500 instead of 404), keys may not be long, and a
/// conditional create is not atomic. Everything else must pass.
#[tokio::test]
async fn s3s_fs_passes_what_it_can() {
    let server = s3s();
    let skips = ["create.", "put.no-leftovers", "delete.retained", "memory."];
    let report = suite("s3s-fs", &server, &[("WALPORT_S3_CONDITIONAL", "no")], false, &skips).await;
    assert_eq!(
        report.failures(),
        ["get.missing", "head.missing", "keys.awkward", "keys.longest", "delete.exact"],
        "{report}"
    );
}

#[tokio::test]
async fn versitygw_passes_the_suite() {
    let server = versitygw();
    let report = suite(
        "versitygw",
        &server,
        &[],
        true,
        &["delete.retained", "memory.bounded", "memory.concurrent"],
    )
    .await;
    assert!(report.is_success(), "{report}");
}
