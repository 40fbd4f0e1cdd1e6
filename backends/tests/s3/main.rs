//! The S3 store against servers that are not ours (s3s-fs in process, versitygw
//! as a program), and against scripted ones that fail on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod conformance;
mod contract;
mod credentials;
mod faults;
mod script;
mod servers;

use std::sync::Arc;

use walport_backends::s3::{S3, SETTINGS};
use walport_engine::memory::Budget;
use walport_engine::settings::{Settings, Source, Table};
use walport_engine::storage::{Open, Result};

/// The store at `target` with these settings, which sends nothing twice unless
/// `retries` says so.
async fn open(target: &str, values: &[(&str, &str)], retries: u32) -> Result<S3> {
    let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
    // Nothing of the machine that runs the tests is used.
    let nowhere = [
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials"),
        ("AWS_CONFIG_FILE", "/nonexistent/config"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    for (name, value) in nowhere.iter().chain(values) {
        settings.set(name, value, Source::Flag((*name).to_owned()))?;
    }
    let budget = Budget::new(64 << 20);
    S3::open(Open { target, settings: &settings, budget: &budget, retries }).await
}

/// Keys that any server takes that checks none.
const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "walport"), ("AWS_SECRET_ACCESS_KEY", "walport-secret")];
