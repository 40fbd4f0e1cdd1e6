//! The conformance suite on the file store, bare and with each store around it
//! that the engine has.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use walport_backends::file::FileStore;
use walport_conformance::{Options, Subject, Unfit, check_with};
use walport_engine::memory::Budget;
use walport_engine::storage::failover::{Merged, Named};
use walport_engine::storage::fanout::{Fanout, Target};
use walport_engine::storage::metrics::Counters;
use walport_engine::storage::policies::Policies;
use walport_engine::storage::retry::RetryPolicy;
use walport_engine::storage::throttle::Bucket;
use walport_engine::storage::{Key, Result, Store};

async fn open(root: &Path) -> Result<Store> {
    let store = FileStore::open(root.to_owned(), Budget::new(32 << 20)).await?;
    Ok(Arc::new(store) as Store)
}

/// Files of writers that did not finish, below the folder `prefix`.
fn unfinished(root: &Path, prefix: &Key) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.to_string_lossy().contains(".tmp.") {
                found.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root.join(prefix.as_str()), &mut found);
    found
}

/// Skips that no file system can help: they need a network, an object lock, or
/// a process of their own.
const SKIPS: &[&str] = &[
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

fn conforms(
    name: &str,
    around: impl Fn(Vec<Store>) -> Result<Store> + Send + Sync + Clone + 'static,
) -> Result<(), Unfit> {
    let roots: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let paths: Vec<PathBuf> = roots.iter().map(|root| root.path().to_owned()).collect();
    let opened = paths.clone();
    let subject = Subject::new(name, move || -> BoxFuture<'static, Result<Store>> {
        let (paths, around) = (opened.clone(), around.clone());
        async move {
            let mut stores = Vec::new();
            for path in &paths {
                stores.push(open(path).await?);
            }
            around(stores)
        }
        .boxed()
    })
    .with_unfinished(move |prefix| {
        let found = paths.iter().flat_map(|path| unfinished(path, &prefix)).collect();
        std::future::ready(Ok(found)).boxed()
    });
    let skips = SKIPS.iter().map(|id| (*id).to_owned()).collect();
    let report =
        check_with(subject, Options { expected_skips: Some(skips), ..Options::default() })?;
    assert_eq!(report.skips(), SKIPS);
    for root in &roots {
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "the suite leaves nothing");
    }
    Ok(())
}

#[test]
fn the_file_store_conforms() -> Result<(), Unfit> {
    conforms("file", |mut stores| Ok(stores.remove(0)))
}

#[test]
fn the_policies_change_nothing_of_the_contract() -> Result<(), Unfit> {
    let policies = Policies {
        retry: RetryPolicy::default(),
        stall: Duration::from_secs(60),
        rate: Some(Bucket::new(1 << 40)),
        prefix: "some/folder".to_owned(),
        observer: Some(Arc::new(Counters::default())),
    };
    conforms("policies", move |mut stores| policies.around(stores.remove(0)))
}

#[test]
fn several_targets_are_a_store() -> Result<(), Unfit> {
    conforms("targets", |stores| {
        let target = |(index, store): (usize, Store)| Target {
            store,
            name: index.to_string(),
            required: index == 0,
        };
        let targets = stores.into_iter().enumerate().map(target).collect();
        Ok(Arc::new(Fanout::new(targets, 1, Duration::from_secs(60))?) as Store)
    })
}

#[test]
fn merged_storages_are_a_store() -> Result<(), Unfit> {
    conforms("merged", |stores| {
        let named = |(index, store): (usize, Store)| Named {
            store,
            name: index.to_string(),
            id: format!("{index}#0"),
        };
        Ok(Arc::new(Merged::new(stores.into_iter().enumerate().map(named).collect())?) as Store)
    })
}
