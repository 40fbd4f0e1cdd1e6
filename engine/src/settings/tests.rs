//! Loading, from every source.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

const ROWS: &[Setting] = &[
    Setting::new("AWS_REGION", "Test", "").namespaced(),
    Setting::new("AWS_SECRET_ACCESS_KEY", "Test", "").namespaced().secret(),
    Setting::new("WALG_FILE_PREFIX", "Test", "").namespaced(),
    Setting::new("WALG_RETRIES", "Test", "").kind(Type::Int(0, 99)).default("15"),
];

fn table() -> Arc<Table> {
    Arc::new(Table::new(ROWS.iter().chain(SETTINGS)))
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let config = Some(file(
        &folder,
        "c.yaml",
        "walg_retries: 1\naws_region: from-file\nWALG_LOG_LEVEL: ERROR\n",
    ));
    let sources = Sources {
        config,
        environment: environment(&[
            ("WALG_RETRIES", "2"),
            ("WALG_AWS_REGION", "from-env\r\n"),
            ("WALG_LOG_LEVEL", ""),
        ]),
        flags: vec![("--walg-retries".to_owned(), "3".to_owned())],
        ..Sources::default()
    };
    let settings = load(table(), &sources).checked().unwrap();
    assert_eq!(settings.number("WALG_RETRIES"), Some(3));
    assert_eq!(
        settings.entry("AWS_REGION"),
        Some(("from-env", &Source::Environment("WALG_AWS_REGION".to_owned())))
    );
    assert_eq!(settings.text("WALG_LOG_LEVEL"), Some("ERROR"), "an empty variable is no value");
    assert_eq!(settings.text("WALG_COMPRESSION_METHOD"), Some("lz4"));
}

#[test]
fn of_several_names_the_plain_one_wins() {
    for order in [
        ["WALE_AWS_REGION", "WALG_AWS_REGION", "AWS_REGION"],
        ["AWS_REGION", "WALG_AWS_REGION", "WALE_AWS_REGION"],
    ] {
        for skip in 0..3 {
            let mut left: Vec<_> =
                ["AWS_REGION", "WALG_AWS_REGION", "WALE_AWS_REGION"][skip..].to_vec();
            let pairs: Vec<_> = order
                .iter()
                .filter(|name| left.contains(name))
                .map(|name| (*name, *name))
                .collect();
            let sources = Sources { environment: environment(&pairs), ..Sources::default() };
            let settings = load(table(), &sources).checked().unwrap();
            assert_eq!(settings.text("AWS_REGION"), Some(left.remove(0)));
        }
    }
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let config = Some(file(&folder, "c.json", r#"{"WALG_COMPRESION_METHOD": "zstd"}"#));
    let loaded = load(table(), &Sources { config, ..Sources::default() });
    let error = loaded.checked().unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error.to_string().contains("WALG_COMPRESION_METHOD")
            && error.to_string().contains("c.json"),
        "{error}"
    );
    assert_eq!(error.hint(), Some("Did you mean WALG_COMPRESSION_METHOD?"));

    let mut pairs = vec![("WALPORT_MEMORY_LIMT", "1"), ("PGSOMETHING", "x")];
    let loaded = load(table(), &Sources { environment: environment(&pairs), ..Sources::default() });
    assert_eq!(loaded.problems.len(), 0);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].hint(), Some("Did you mean WALPORT_MEMORY_LIMIT?"));
    pairs.push(("WALPORT_STRICT", "true"));
    let loaded = load(table(), &Sources { environment: environment(&pairs), ..Sources::default() });
    assert_eq!((loaded.problems.len(), loaded.warnings.len()), (1, 0));
}

#[test]
fn a_wrong_type_names_its_source_and_hides_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let config = Some(file(
        &folder,
        "c.toml",
        "WALG_RETRIES = 'many'\nWALG_PREVENT_WAL_OVERWRITE = 'maybe'\n",
    ));
    let loaded = load(table(), &Sources { config: config.clone(), ..Sources::default() });
    assert_eq!(loaded.problems.len(), 2, "{:?}", loaded.problems);
    for problem in &loaded.problems {
        assert!(problem.to_string().contains("c.toml"), "{problem}");
    }
    let sources = Sources {
        environment: environment(&[("AWS_SECRET_ACCESS_KEY", "hunter2")]),
        ..Sources::default()
    };
    assert!(!format!("{:?}", load(table(), &sources)).contains("hunter2"));
}

#[test]
fn a_named_file_must_be_there_and_a_default_one_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.json");
    assert_eq!(
        load(table(), &Sources { config: Some(missing.clone()), ..Sources::default() })
            .checked()
            .unwrap_err()
            .kind(),
        Kind::Config
    );
    let by_variable = environment(&[("WALG_CONFIG_PATH", missing.to_str().unwrap())]);
    assert!(
        load(table(), &Sources { environment: by_variable, ..Sources::default() })
            .checked()
            .is_err()
    );

    let homes = vec![folder.path().join("nowhere"), folder.path().to_path_buf()];
    assert!(
        load(table(), &Sources { homes: homes.clone(), ..Sources::default() }).checked().is_ok()
    );
    file(&folder, ".walg.yaml", "AWS_REGION: yaml");
    file(&folder, ".walg.json", r#"{"AWS_REGION": "json"}"#);
    let loaded = load(table(), &Sources { homes: homes.clone(), ..Sources::default() });
    assert_eq!(loaded.file, Some(folder.path().join(".walg.json")));
    assert_eq!(loaded.checked().unwrap().text("AWS_REGION"), Some("json"));
    file(&folder, ".walg.json", "{");
    assert!(load(table(), &Sources { homes, ..Sources::default() }).checked().is_err());
}

#[test]
fn blocks_fall_back_to_the_root_but_not_for_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let text = "AWS_REGION: eu\nWALG_FILE_PREFIX: /root\nWALG_STORAGE_PREFIX: below\nWALG_FAILOVER_STORAGES:\n  \
                Second:\n    walg_file_prefix: /second\n    AWS_SECRET_ACCESS_KEY: hunter2\n  third:\n    AWS_REGION: us\n";
    let config = Some(file(&folder, "c.yaml", text));
    let settings = load(table(), &Sources { config, ..Sources::default() }).checked().unwrap();
    assert_eq!(
        settings.block_names("WALG_FAILOVER_STORAGES").collect::<Vec<_>>(),
        ["second", "third"]
    );
    let second = settings.block("WALG_FAILOVER_STORAGES", "SECOND").unwrap();
    assert_eq!(second.text("WALG_FILE_PREFIX"), Some("/second"));
    assert_eq!(second.text("AWS_REGION"), Some("eu"));
    assert_eq!(second.text("WALG_STORAGE_PREFIX"), Some("below"));
    let third = settings.block("WALG_FAILOVER_STORAGES", "third").unwrap();
    assert_eq!((third.text("WALG_FILE_PREFIX"), third.text("AWS_REGION")), (None, Some("us")));
    assert_eq!(settings.text("AWS_REGION"), Some("eu"));
    assert!(settings.block("WALG_FAILOVER_STORAGES", "fourth").is_none());
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn blocks_are_checked_like_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    for block in [
        r#"{"a": {"AWS_REGON": "x"}}"#,
        r#"{"a": {"WALG_RETRIES": "x"}}"#,
        r#"{"default": {}}"#,
        r#"{"a": 1}"#,
        "[]",
    ] {
        let config = file(&folder, "c.json", &format!(r#"{{"WALG_FAILOVER_STORAGES": {block}}}"#));
        let sources = Sources { config: Some(config), ..Sources::default() };
        assert!(load(table(), &sources).checked().is_err(), "{block}");
        let sources = Sources {
            environment: environment(&[("WALG_FAILOVER_STORAGES", block)]),
            ..Sources::default()
        };
        assert!(load(table(), &sources).checked().is_err(), "{block}");
    }
}

#[test]
fn rows_are_sound() {
    let mut names = std::collections::HashSet::new();
    for row in SETTINGS {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        assert!(row.help.ends_with('.'), "{}: help is made of sentences", row.name);
        if let Some(default) = row.default {
            row.check(default).unwrap();
        }
    }
}
