//! What is put around every store, and in which order.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::{Metrics, Observer};
use super::prefix::Prefix;
use super::resume::Resume;
use super::retry::{Retry, RetryPolicy};
use super::stall::Stall;
use super::throttle::{Bucket, Throttle};
use super::{Result, Store};
use crate::settings::Settings;

/// How a store is treated. One value serves every store of a process, so that
/// they share the rate limit.
#[derive(Debug, Clone)]
pub struct Policies {
    /// How often what failed is tried again.
    pub retry: RetryPolicy,
    /// How long nothing may move.
    pub stall: Duration,
    /// The rate of all bodies together, if it is limited.
    pub rate: Option<Bucket>,
    /// A folder below the root of every store (`WALG_STORAGE_PREFIX`).
    pub prefix: String,
    /// Who is told of every operation.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Policies {
    /// What the settings say, without a rate limit: WAL-G limits backups only.
    /// See [`limited`](Self::limited).
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            retry: RetryPolicy::from_settings(settings),
            stall: settings.duration("WALPORT_STALL_TIMEOUT").unwrap_or(Duration::from_secs(60)),
            rate: None,
            prefix: settings.text("WALG_STORAGE_PREFIX").unwrap_or_default().to_owned(),
            observer: None,
        }
    }

    /// With the rate of `WALG_NETWORK_RATE_LIMIT`, if it is set.
    pub fn limited(mut self, settings: &Settings) -> Self {
        self.rate =
            settings.size("WALG_NETWORK_RATE_LIMIT").filter(|rate| *rate > 0).map(Bucket::new);
        self
    }

    /// `store` with everything around it, from the inside: stall, retry, resume,
    /// rate, metrics, prefix. What stalls is tried again or resumed; what waits
    /// for its turn at the rate limit does not look stalled.
    pub fn around(&self, store: Store) -> Result<Store> {
        let mut store: Store = Arc::new(Stall::new(store, self.stall));
        store = Arc::new(Retry::new(store, self.retry));
        store = Arc::new(Resume::new(store, self.retry));
        if let Some(rate) = &self.rate {
            store = Arc::new(Throttle::new(store, rate.clone()));
        }
        if let Some(observer) = &self.observer {
            store = Arc::new(Metrics::new(store, Arc::clone(observer)));
        }
        if !self.prefix.trim_matches('/').is_empty() {
            store = Arc::new(Prefix::new(store, &self.prefix)?);
        }
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::settings::{SETTINGS, Source, Table};
    use crate::storage::faulty::{Fault, Faulty, Op, Rule};
    use crate::storage::metrics::Counters;
    use crate::storage::{InMemory, Key, Kind, Put, StorageExt};

    fn policies() -> Policies {
        let table = Table::new(SETTINGS.iter().chain(crate::storage::SETTINGS));
        let mut settings = Settings::new(Arc::new(table));
        for (name, value) in [("WALG_STORAGE_PREFIX", "/deep/"), ("WALG_NETWORK_RATE_LIMIT", "1mb")]
        {
            settings.set(name, value, Source::Flag(name.to_owned())).unwrap();
        }
        Policies::from_settings(&settings).limited(&settings)
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_network_is_not_seen_outside() {
        let memory = Arc::new(InMemory::new());
        let faulty = Arc::new(Faulty::new(memory.clone()));
        let counters = Arc::new(Counters::default());
        let policies = Policies { observer: Some(counters.clone()), ..policies() };
        let store = policies.around(faulty.clone()).unwrap();
        for fault in [
            Rule::on(Op::Put).call(1).fault(Fault::Hang),
            Rule::on(Op::Put).call(2).fault(Fault::Break { after: 9, kind: Kind::Unavailable }),
            Rule::on(Op::Put).call(3).fault(Fault::FailAfter),
            // The create of unknown outcome is read back.
            Rule::on(Op::Get).call(1).fault(Fault::Stall(1000)),
            Rule::on(Op::Get).call(3).fault(Fault::Hang),
            Rule::on(Op::Get).call(4).fault(Fault::Stall(1000)),
            Rule::on(Op::Get).call(5).fault(Fault::Break { after: 9, kind: Kind::Unavailable }),
            Rule::on(Op::Get).call(6).fault(Fault::Throttle(Duration::from_secs(9))),
            Rule::on(Op::Get).call(7).fault(Fault::Cut(1000)),
        ] {
            faulty.add(fault);
        }
        let data: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
        let name = Key::parse("x").unwrap();
        store.put_bytes(&name, data.clone(), Put::create()).await.unwrap();
        assert_eq!(memory.names(), ["deep/x"]);
        assert!(store.get_bytes(&name, 300_000).await.unwrap() == data);
        let sums = counters.sums(Op::Get);
        assert_eq!((sums.calls, sums.failures, sums.amount), (1, 0, 300_000));
    }
}
