//! The progress line: on a terminal, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Site, installations};

/// Runs what follows on a terminal of its own, whose output comes on stdout.
const TERMINAL: [&str; 4] = ["sh", "-c", "exec script -qefc \"$*\" /dev/null", "sh"];

#[test]
fn a_backup_on_a_terminal_shows_how_far_it_is() {
    let major = *installations().keys().last().unwrap();
    let mut site = Site::new(major);
    // Slow enough for several looks at it.
    site.tool = site.tool.clone().with("WALG_DISK_RATE_LIMIT", "8MiB");

    let plain = site.push(&["--full"]).success();
    assert!(plain.stdout.is_empty() && !plain.stderr.contains(['\r', '\u{1b}']), "{plain}");
    assert!(!plain.stderr.contains("/s, "), "{plain}");

    let quiet = site.tool.clone();
    site.tool = site.tool.clone().under(&TERMINAL);
    let shown = site.push(&["--full"]).success();
    let lines: Vec<_> = shown.text().split('\r').filter(|line| line.contains("/s")).collect();
    assert!(lines.len() > 1, "{shown}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains(" of ") && line.contains("iB/s, ") && line.contains(" left")),
        "{shown}"
    );
    // Every line of the log begins on a line of its own.
    let logged = shown.text().lines().filter(|line| line.contains("INFO: "));
    for line in logged {
        let before = line.split("INFO: ").next().unwrap();
        assert!(before.is_empty() || before.ends_with("\u{1b}[K"), "{line:?}");
    }

    site.tool = quiet.with("WALPORT_PROGRESS", "never").under(&TERMINAL);
    let silent = site.push(&["--full"]).success();
    assert!(!silent.text().contains("iB/s"), "{silent}");
}
