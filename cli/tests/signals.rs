//! A signal ends a command at once, says so, and leaves nothing half-written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::File;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, Tool, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// A `wal-push` that takes much longer than the test: a sparse file of 64 GiB.
struct Endless {
    child: Child,
    scratch: Scratch,
}

fn endless(wrapper: &[&str], flags: &[&str]) -> Endless {
    let scratch = Scratch::new();
    let archive = scratch.folder("archive");
    let tool = Tool::walport(&scratch)
        .with("WALG_FILE_PREFIX", &archive)
        .with("WALG_COMPRESSION_METHOD", "zstd");
    let segment = scratch.file("000000010000000000000001", "");
    File::options().write(true).open(&segment).unwrap().set_len(64 << 30).unwrap();
    let line = [&["wal-push", segment.to_str().unwrap()], flags].concat();
    let mut child = tool
        .under(wrapper)
        .command(&line)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // With a temporary file in the archive, the push is under way.
    wait_for("the upload begins", Duration::from_secs(30), || {
        assert!(child.try_wait().unwrap().is_none(), "the push ended early");
        !files(&archive).is_empty()
    });
    Endless { child, scratch }
}

impl Endless {
    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code and what was said, soon.
    fn ended(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the signal did not end the command"
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let left: Vec<_> = files(&self.scratch.join("archive"));
        assert!(left.is_empty(), "left behind: {left:?}\n{said}");
        (status.code(), said)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_signal_ends_the_push_and_leaves_nothing() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
        (Signal::QUIT, "SIGQUIT"),
    ] {
        let mut push = endless(&[], &[]);
        push.send(signal);
        let (code, said) = push.ended();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("stopped by {name}")), "{said}");
    }
}

#[test]
fn with_strict_exit_codes_the_signal_is_in_the_code() {
    for (signal, wanted) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let mut push = endless(&[], &["--strict-exit-codes"]);
        push.send(signal);
        assert_eq!(push.ended().0, Some(wanted));
    }
}

#[test]
fn a_hangup_that_was_ignored_before_stays_ignored() {
    let mut push = endless(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"], &[]);
    push.send(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(push.child.try_wait().unwrap().is_none(), "it ended");
    push.send(Signal::TERM);
    let (_, said) = push.ended();
    assert!(said.contains("stopped by SIGTERM"), "{said}");
}
