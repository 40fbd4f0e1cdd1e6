//! The surface: arguments, exit codes, what goes to stdout and what to stderr,
//! logs, `config check`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Scratch, Tool};

/// Walport with a file store in a scratch folder.
fn tool(scratch: &Scratch) -> Tool {
    Tool::walport(scratch).with("WALG_FILE_PREFIX", scratch.folder("archive"))
}

#[test]
fn version_and_help_are_data() {
    let scratch = Scratch::new();
    let tool = tool(&scratch);
    for flag in ["--version", "-v"] {
        let run = tool.run(&[flag]).success();
        assert!(
            run.text().starts_with("walport version ") && run.text().ends_with("\tPostgreSQL\n"),
            "{run}"
        );
        assert_eq!(run.text().matches('\t').count(), 3, "{run}");
        assert!(run.stderr.is_empty(), "{run}");
    }
    for line in [&["--help"][..], &["help", "backup-push"], &["backup-push", "-h"], &[]] {
        let run = tool.run(line).success();
        assert!(run.text().contains("Usage: walport") && run.stderr.is_empty(), "{run}");
    }
}

#[test]
fn wrong_arguments_end_with_1_and_the_usage_on_stderr() {
    let scratch = Scratch::new();
    let tool = tool(&scratch);
    for line in [
        &["no-such-command"][..],
        &["wal-push"],
        &["wal-push", "a", "b"],
        &["backup-list", "--no-such-flag"],
        &["backup-list", "--pre"],
        &["config"],
    ] {
        let run = tool.run(line).exits(1).says("Usage: walport");
        assert!(run.stdout.is_empty(), "{run}");
    }
    tool.run(&["wal-push", "a", "--walg-log-level"]).exits(1).says("needs a value");
    tool.run(&["backup-fetch", "/tmp/nowhere"]).exits(1).says("no backup was chosen");
    // PostgreSQL must not take a mistyped restore_command for "no such file".
    assert!(tool.run(&["--strict-exit-codes", "wal-fetch"]).code.unwrap() >= 128);
    assert!(
        tool.with("WALPORT_STRICT_EXIT_CODES", "true").run(&["wal-fetch"]).code.unwrap() >= 128
    );
}

#[test]
fn without_a_storage_nothing_starts() {
    let scratch = Scratch::new();
    let tool = Tool::walport(&scratch);
    for line in
        [&["wal-push", "x"][..], &["wal-fetch", "x", "y"], &["backup-list"], &["backup-push", "/x"]]
    {
        let run = tool
            .run(line)
            .exits(1)
            .says("no storage is configured")
            .says("HINT: ")
            .says("WALG_FILE_PREFIX");
        assert!(run.stdout.is_empty(), "{run}");
    }
    assert!(tool.run(&["wal-fetch", "x", "y", "--strict-exit-codes"]).code.unwrap() >= 128);
    tool.run(&["backup-list", "--target-storage", "second"])
        .exits(1)
        .says("no storage named \"second\"");
}

#[test]
fn a_setting_is_a_flag_a_variable_or_a_line_in_a_file() {
    let scratch = Scratch::new();
    let tool = tool(&scratch);
    let value = |tool: &Tool, line: &[&str]| {
        let run = tool.run(&[line, &["config", "check", "--json"]].concat()).success();
        let rows: serde_json::Value = serde_json::from_str(run.text()).unwrap();
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == "WALG_UPLOAD_CONCURRENCY")
            .unwrap();
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(value(&tool, &[]), ("16".to_owned(), "default".to_owned()));
    scratch.file("home/.walg.yaml", "walg_upload_concurrency: 2\n");
    let (two, source) = value(&tool, &[]);
    assert!(two == "2" && source.contains(".walg.yaml"), "{source}");
    let tool = tool.with("WALG_UPLOAD_CONCURRENCY", "3");
    assert_eq!(
        value(&tool, &[]),
        ("3".to_owned(), "environment WALG_UPLOAD_CONCURRENCY".to_owned())
    );
    let wanted = ("4".to_owned(), "flag --walg-upload-concurrency".to_owned());
    assert_eq!(value(&tool, &["--walg-upload-concurrency", "4"]), wanted);
    assert_eq!(value(&tool, &["--walg-upload-concurrency=4"]), wanted);
    // A named file replaces that of the home.
    let named = scratch.file("named.toml", "WALG_UPLOAD_CONCURRENCY = 5\n");
    let tool = tool.without("WALG_UPLOAD_CONCURRENCY");
    assert_eq!(value(&tool, &["--config", named.to_str().unwrap()]).0, "5");
    assert_eq!(value(&tool.with("WALG_CONFIG_PATH", &named), &[]).0, "5");
}

#[test]
fn a_mistake_in_the_configuration_stops_every_command() {
    let scratch = Scratch::new();
    let tool = tool(&scratch);
    let file = scratch.file("c.json", r#"{"WALG_COMPRESION_METHOD": "zstd"}"#);
    let config = file.to_str().unwrap();
    for line in [&["wal-push", "x"][..], &["backup-list"], &["config", "check"]] {
        let run = tool.run(&[line, &["--config", config]].concat()).exits(1);
        run.says("WALG_COMPRESION_METHOD is not a setting")
            .says("Did you mean WALG_COMPRESSION_METHOD?");
    }
    tool.run(&["backup-list", "--config", "/no/such/file.json"])
        .exits(1)
        .says("/no/such/file.json");
    tool.clone()
        .with("WALG_PREVENT_WAL_OVERWRITE", "maybe")
        .run(&["backup-list"])
        .exits(1)
        .says("true or false");
    let misspelt = tool.with("WALG_COMPRESION_METHOD", "zstd");
    misspelt
        .run(&["config", "check"])
        .success()
        .says("WARNING")
        .says("Did you mean WALG_COMPRESSION_METHOD?");
    misspelt.with("WALPORT_STRICT", "true").run(&["config", "check"]).exits(1);
}

#[test]
fn config_check_shows_everything_but_secrets() {
    let scratch = Scratch::new();
    let tool = tool(&scratch).with("PGPASSWORD", "hunter2").with("WALG_LOG_LEVEL", "DEVEL");
    let run = tool.run(&["config", "check"]).success();
    let text = run.text();
    assert!(text.starts_with("setting "), "{run}");
    let line = text.lines().find(|line| line.starts_with("PGPASSWORD ")).unwrap();
    assert!(line.contains("--HIDDEN--") && line.ends_with("environment PGPASSWORD"), "{run}");
    assert!(
        text.lines()
            .any(|line| line.starts_with("WALG_COMPRESSION_METHOD ") && line.ends_with(" default")),
        "{run}"
    );
    assert!(!format!("{run}").contains("hunter2"), "{run}");
    let run = tool.run(&["backup-list"]);
    assert!(
        run.stderr.contains("PGPASSWORD=--HIDDEN--") && !format!("{run}").contains("hunter2"),
        "{run}"
    );

    tool.clone()
        .with("WALPORT_MEMORY_LIMIT", "1MiB")
        .run(&["config", "check"])
        .exits(1)
        .says("smallest limit");
    tool.clone()
        .with("WALG_LOG_DESTINATION", "/no/such/folder/log")
        .run(&["config", "check"])
        .exits(1)
        .says("/no/such/folder/log");
    tool.without("WALG_FILE_PREFIX")
        .run(&["config", "check"])
        .exits(1)
        .says("no storage is configured");
}

#[test]
fn a_cipher_that_cannot_be_used_stops_everything() {
    let scratch = Scratch::new();
    for (name, value) in [
        ("WALG_CSE_KMS_ID", "id"),
        ("WALE_GPG_KEY_ID", "ABCD"),
        ("WALG_LIBSODIUM_KEY_PATH", "/no/such/key"),
    ] {
        let tool = tool(&scratch).with(name, value);
        tool.run(&["wal-push", "/etc/hostname"]).exits(1).says("HINT");
        tool.run(&["config", "check"]).exits(1);
    }
}

#[test]
fn an_empty_list_is_nothing_or_brackets() {
    let scratch = Scratch::new();
    let tool = tool(&scratch);
    for (flags, wanted) in [
        (&[][..], ""),
        (&["--pretty"], ""),
        (&["--json"], "[]\n"),
        (&["--json=true", "--pretty=false", "--detail"], "[]\n"),
    ] {
        let run = tool.run(&[&["backup-list"], flags].concat()).success();
        assert_eq!(run.text(), wanted, "{run}");
        assert_eq!(run.stderr.contains("No backups found"), wanted.is_empty(), "{run}");
    }
}

#[test]
fn logs_go_where_and_how_they_are_told() {
    let scratch = Scratch::new();
    let tool = tool(&scratch).with("WALG_LOG_DESTINATION", scratch.join("home/log"));
    for count in 1..=2 {
        let run = tool.run(&["wal-push", "/no/such/segment"]).exits(1);
        assert!(run.stderr.is_empty() && run.stdout.is_empty(), "{run}");
        let log = std::fs::read_to_string(scratch.join("home/log")).unwrap();
        assert_eq!(log.matches("ERROR: 20").count(), count, "{log}");
    }
    let mode = std::fs::metadata(scratch.join("home/log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    let tool = tool.without("WALG_LOG_DESTINATION").with("WALPORT_LOG_FORMAT", "json");
    let run = tool.run(&["wal-push", "/no/such/segment"]).exits(1);
    let errors =
        run.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert!(errors.clone().any(|line| line["level"] == "error"), "{run}");
    assert!(
        errors.clone().all(|line| line["time"].is_string() && line["message"].is_string()),
        "{run}"
    );
    let tool = tool.without("WALPORT_LOG_FORMAT").with("WALG_LOG_LEVEL", "ERROR");
    let run = tool.run(&["backup-list"]).success();
    assert!(run.stderr.is_empty(), "{run}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let scratch = Scratch::new();
    let mut command = tool(&scratch).command(&["flags"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(command.stdout(writer).status().unwrap().success());
}

#[test]
fn completion_knows_the_commands() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = tool(&scratch).run(&["completion", shell]).success();
        assert!(
            run.text().contains("backup-push") && run.text().contains("strict-exit-codes"),
            "{run}"
        );
    }
    let run = tool(&scratch).run(&["flags"]).success();
    assert!(run.text().lines().any(|line| line.starts_with("--walg-compression-method ")), "{run}");
}
