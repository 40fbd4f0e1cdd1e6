//! `WALG_DISK_RATE_LIMIT`: a limit on how fast a data directory is read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be read at once beyond the rate, in bytes, as in WAL-G.
const BURST: u64 = 64 << 10;

/// A limit in bytes per second, shared by all threads of a backup.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    /// When what was read so far is paid for.
    paid: Mutex<Instant>,
}

impl Pace {
    /// A limit of `rate` bytes per second; none if it is absent or 0.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), paid: Mutex::new(Instant::now()) }
    }

    /// Accounts for `bytes` and sleeps until they are within the rate.
    pub(super) fn wait(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let cost = |bytes: u64| Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let due = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = now.checked_sub(cost(BURST)).unwrap_or(now);
            *paid = (*paid).max(idle) + cost(bytes);
            *paid
        };
        std::thread::sleep(due.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_back_and_no_rate_does_not() {
        let free = Pace::new(None);
        let begin = Instant::now();
        free.wait(u64::MAX);
        let slow = Pace::new(Some(1 << 20));
        for _ in 0..8 {
            slow.wait(32 << 10);
        }
        // 256 KiB at 1 MiB/s less the burst.
        assert!(begin.elapsed() >= Duration::from_millis(180), "{:?}", begin.elapsed());
    }
}
