//! The SFTP store against servers that are not ours: OpenSSH's and rclone's.
#![cfg(feature = "sftp")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod conformance;
mod latency;
mod servers;
mod trust;

use std::sync::Arc;

use walport_backends::sftp::{BACKEND, SETTINGS};
use walport_engine::memory::Budget;
use walport_engine::settings::{Settings, Source, Table};
use walport_engine::storage::{Open, Result, Store};

/// The store at `target` with these settings.
async fn open(target: &str, values: &[(&str, &str)]) -> Result<Store> {
    let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
    for (name, value) in values {
        settings.set(name, value, Source::Flag((*name).to_owned()))?;
    }
    let budget = Budget::new(64 << 20);
    (BACKEND.open)(Open { target, settings: &settings, budget: &budget, retries: 0 }).await
}
