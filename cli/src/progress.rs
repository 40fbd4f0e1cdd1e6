//! The progress line of a backup or restore: on a terminal only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use walport_engine::progress::Progress;
use walport_engine::settings::Settings;

use crate::logging;

const TICK: Duration = Duration::from_millis(500);

/// Shows `progress` while `work` runs.
pub async fn shown<T>(
    settings: &Settings,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> T {
    let never =
        settings.text("WALPORT_PROGRESS").is_some_and(|when| when.eq_ignore_ascii_case("never"));
    if never || !std::io::stderr().is_terminal() {
        return work.await;
    }
    progress.watch();
    let result = tokio::select! {
        result = work => result,
        never = show(progress) => match never {},
    };
    logging::status(None);
    result
}

async fn show(progress: &Progress) -> std::convert::Infallible {
    let started = Instant::now();
    let mut speed = Speed::default();
    loop {
        tokio::time::sleep(TICK).await;
        let (done, total) = (progress.done(), progress.total());
        let rate = speed.measure(done, started.elapsed());
        logging::status(Some(&line(done, total, rate)));
    }
}

/// Bytes per second, the last few seconds counting most.
#[derive(Debug, Default)]
struct Speed {
    last: (u64, Duration),
    rate: Option<f64>,
}

impl Speed {
    fn measure(&mut self, done: u64, elapsed: Duration) -> f64 {
        let seconds = elapsed.saturating_sub(self.last.1).as_secs_f64().max(1e-3);
        let now = done.saturating_sub(self.last.0) as f64 / seconds;
        self.last = (done, elapsed);
        let weight = (seconds / 5.0).min(1.0);
        let rate = self.rate.map_or(now, |before| before + (now - before) * weight);
        self.rate = Some(rate);
        rate
    }
}

/// `1.2 GiB of 4.0 GiB (30%), 310.4 MiB/s, 0:09 left`.
fn line(done: u64, total: u64, rate: f64) -> String {
    let speed = format!("{}/s", size(rate));
    if total == 0 || done > total {
        return format!("{}, {speed}", size(done as f64));
    }
    let share = (done as f64 / total as f64 * 100.0).floor();
    let left = match ((total - done) as f64 / rate).ceil() {
        seconds if seconds.is_finite() && seconds < 360_000.0 => {
            format!(", {} left", clock(seconds as u64))
        }
        _ => String::new(),
    };
    format!("{} of {} ({share}%), {speed}{left}", size(done as f64), size(total as f64))
}

fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1023.95 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_bytes_rate_and_time_left() {
        assert_eq!(
            line(512 << 20, 2 << 30, 256e6),
            "512.0 MiB of 2.0 GiB (25%), 244.1 MiB/s, 0:07 left"
        );
        assert_eq!(line(10, 1 << 40, 1e6), "10 B of 1.0 TiB (0%), 976.6 KiB/s");
        assert_eq!(
            line(1 << 20, 1 << 34, f64::from(1 << 20)),
            "1.0 MiB of 16.0 GiB (0%), 1.0 MiB/s, 4:33:03 left"
        );
        assert_eq!(line(1 << 20, 1 << 21, 0.0), "1.0 MiB of 2.0 MiB (50%), 0 B/s");
        assert_eq!(line(3000, 0, 1500.0), "2.9 KiB, 1.5 KiB/s");
        assert_eq!(line(3000, 2000, 1500.0), "2.9 KiB, 1.5 KiB/s");
    }

    #[test]
    fn the_rate_follows_what_happens() {
        let mut speed = Speed::default();
        let second = Duration::from_secs(1);
        assert!((speed.measure(100, second) - 100.0).abs() < 1.0);
        let mut rate = 0.0;
        for tick in 2u32..40 {
            rate = speed.measure(100 + u64::from(tick - 1) * 1000, second * tick);
        }
        assert!((rate - 1000.0).abs() < 10.0, "{rate}");
    }
}
