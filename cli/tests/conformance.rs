//! `walport conformance`: its list, its reports, its exit codes, and that it
//! leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Scratch, Tool};

/// The files below a directory.
fn files(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder may be removed while we look.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => found.push(entry.path().display().to_string()),
                Err(_) => {}
            }
        }
    }
    found
}

#[test]
fn the_list_has_ids_and_needs() {
    let scratch = Scratch::new();
    let tool = Tool::walport(&scratch);
    let run = tool.run(&["conformance", "list"]).success();
    let line = run.text().lines().find(|line| line.starts_with("put.atomic ")).unwrap();
    assert!(line.contains("64 KiB") && line.ends_with("(needs atomic_put)"), "{line}");
    let run = tool.run(&["conformance", "list", "--json", "--filter", "*.missing"]).success();
    let cases: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let ids: Vec<_> = cases.as_array().unwrap().iter().map(|case| case["id"].as_str()).collect();
    let expected = ["get.missing", "head.missing", "delete.missing", "copy.missing"];
    assert_eq!(ids, expected.map(Some));
}

#[test]
fn the_file_store_conforms() {
    let scratch = Scratch::new();
    let (archive, reports) = (scratch.folder("archive"), scratch.folder("reports"));
    let junit = reports.join("junit.xml");
    let run = Tool::walport(&scratch)
        .run(&[
            "conformance",
            "run",
            archive.to_str().unwrap(),
            "--json",
            "--junit",
            junit.to_str().unwrap(),
            // What needs a network or a bucket; everything else must have run.
            "--only-skip",
            "put.no-leftovers,create.ambiguous,get.truncated,get.slow,get.resumed,list.requests,\
             delete.retained,error.reset,error.broken-upload,error.throttled,error.internal,\
             error.denied,error.expired,attributes.accepted",
        ])
        .success();
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["success"], true, "{run}");
    assert_eq!(report["failed"], 0, "{run}");
    assert_eq!(report["skipped"], 14, "{run}");
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.starts_with("<?xml ") && xml.contains("name=\"memory.concurrent\""), "{xml}");
    assert_eq!(files(&archive), Vec::<String>::new());
}

#[test]
fn a_store_that_does_not_conform_ends_with_1_and_says_why() {
    let scratch = Scratch::new();
    let archive = scratch.folder("archive");
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o555)).unwrap();
    let line = [
        "conformance",
        "run",
        archive.to_str().unwrap(),
        "--filter",
        "put.roundtrip",
        "--seed",
        "7",
    ];
    let run =
        Tool::walport(&scratch).run(&line).exits(1).says("1 of 1 cases failed").says("--seed 7");
    assert!(run.text().starts_with("FAILED   put.roundtrip"), "{run}");
    assert!(run.text().contains("seed 7, prefix walport-conformance-"), "{run}");
    let strict = Tool::walport(&scratch).with("WALPORT_STRICT_EXIT_CODES", "true").run(&line);
    assert!(strict.code.unwrap() >= 128, "{strict}");
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_run_that_proves_nothing_fails() {
    let scratch = Scratch::new();
    let archive = scratch.folder("archive");
    let archive = archive.to_str().unwrap();
    let tool = Tool::walport(&scratch);
    tool.run(&["conformance", "run", archive, "--filter", "no.such"])
        .exits(1)
        .says("no case matches");
    tool.run(&["conformance", "run", archive, "--filter", "get.slow"])
        .exits(1)
        .says("no case passed");
    let line =
        ["conformance", "run", archive, "--filter", "get.slow,list.empty", "--only-skip", "none"];
    tool.run(&line).exits(1).says("get.slow was skipped and should have run");
    tool.run(&["conformance", "run", "nosuch://x"]).exits(1).says("no store opens the scheme");
    tool.run(&["conformance", "run", "/no/such/folder"]).exits(1).says("the store does not open");
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let scratch = Scratch::new();
    let archive = scratch.folder("archive");
    let line = [
        "conformance",
        "run",
        archive.to_str().unwrap(),
        "--filter",
        "concurrent,list.pages",
        "--full",
    ];
    let mut child = Tool::walport(&scratch).start(&line);
    let began = Instant::now();
    while files(&archive).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be stopped");
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was written in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(files(&archive), Vec::<String>::new());
}
