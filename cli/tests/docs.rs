//! The documents name only what exists: commands, flags, settings, paths. And
//! `docs/settings.md` is what the program prints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::{Scratch, Tool};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The documents of the root and of docs/, by name.
fn documents() -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    for folder in [root(), root().join("docs")] {
        paths.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    paths.into_iter().map(read).collect()
}

fn settings_page() -> String {
    let scratch = Scratch::new();
    Tool::walport(&scratch).run(&["docs", "settings"]).success().text().to_owned()
}

/// Every name a setting has: what stands in back ticks, in capitals.
fn setting_names() -> BTreeSet<String> {
    let page = settings_page();
    page.split('`').filter(|name| is_capital(name)).map(str::to_owned).collect()
}

fn is_capital(name: &str) -> bool {
    name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The code in a document: fenced blocks line by line, and spans of back ticks.
fn code(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(line.to_owned());
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

#[test]
fn the_page_of_settings_is_fresh() {
    let stored =
        std::fs::read_to_string(root().join("docs/settings.md")).expect("docs/settings.md");
    assert!(
        stored == settings_page(),
        "docs/settings.md is stale: run `cargo run -q -p walport -- docs settings > docs/settings.md`"
    );
}

/// All source text of these folders, but for tests and tables of settings.
fn sources(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("tests.rs")
            && !path.ends_with("settings/engine.rs")
            && !path.ends_with("postgres/settings.rs")
        {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    text
}

#[test]
fn a_setting_has_an_effect_or_says_that_it_has_none() {
    use walport_engine::{postgres, settings};
    let sources = sources(&["engine/src", "backends/src", "codecs/src", "cli/src"]);
    for row in settings::SETTINGS.iter().chain(postgres::SETTINGS) {
        // A cipher is refused by its group, whatever the setting.
        let without_effect =
            row.pending || row.help.contains("Accepted") || row.group == settings::ENCRYPTION;
        let used = sources.contains(&format!("\"{}\"", row.name));
        assert!(used || without_effect, "nothing reads {}: mark it as pending", row.name);
    }
}

#[test]
fn documents_name_settings_that_exist() {
    let known = setting_names();
    assert!(known.contains("WALG_COMPRESSION_METHOD") && known.contains("PGHOST"));
    let ours = ["WALG_", "WALE_", "WALPORT_", "AWS_", "S3_", "GCS_", "AZURE_", "SSH_"];
    // Of the tests and the benchmark, or of other programs.
    let of_the_tests = |name: &str| {
        name.ends_with("_BIN") || name.starts_with("WALPORT_TEST_") || name == "SSH_AUTH_SOCK"
    };
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            // `WALG_` and `WALG_X` stand for any name.
            let pattern = word.ends_with('_') || word.ends_with("_X");
            let is_ours = ours.iter().any(|prefix| word.starts_with(prefix));
            if is_ours
                && is_capital(word)
                && !pattern
                && !of_the_tests(word)
                && !known.contains(word)
            {
                wrong.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no such settings:\n{}", wrong.join("\n"));
}

#[test]
fn documents_name_commands_and_flags_that_exist() {
    let scratch = Scratch::new();
    let tool = Tool::walport(&scratch);
    let settings: BTreeSet<_> = setting_names()
        .iter()
        .map(|name| format!("--{}", name.to_lowercase().replace('_', "-")))
        .collect();
    let mut help: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (document, text) in documents() {
        for line in code(&text) {
            let words: Vec<_> = line
                .split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '(' | ')' | ','))
                .collect();
            let Some(at) =
                words.iter().position(|word| *word == "walport" || word.ends_with("/walport"))
            else {
                continue;
            };
            // `cargo test -p walport --test wal` names the package.
            if at > 0 && words[at - 1] == "-p" {
                continue;
            }
            let Some(command) = words[at + 1..]
                .iter()
                .find(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            seen += 1;
            let sub = words[at + 1..].iter().skip_while(|word| *word != command).nth(1).copied();
            let page =
                help.entry(format!("{command} {}", sub.unwrap_or_default())).or_insert_with(|| {
                    let run = tool.run(&[command, "--help"]);
                    let own = (run.code == Some(0)).then(|| run.text().to_owned())?;
                    // The word that follows may be a command of its own.
                    let is_word = |sub: &&str| sub.starts_with(|c: char| c.is_ascii_lowercase());
                    let below = sub.filter(is_word).map(|sub| tool.run(&[command, sub, "--help"]));
                    let below = below.filter(|run| run.code == Some(0));
                    Some(own + below.as_ref().map_or("", |run| run.text()))
                });
            let Some(page) = page else {
                wrong.push(format!("{document}: walport {command}"));
                continue;
            };
            for flag in words[at..].iter().filter(|word| word.len() > 2 && word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let known =
                    page.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == flag);
                if !known && !settings.contains(flag) {
                    wrong.push(format!("{document}: walport {command} {flag}"));
                }
            }
        }
    }
    assert!(seen > 0, "no document names a command");
    assert!(wrong.is_empty(), "no such commands or flags:\n{}", wrong.join("\n"));
}

#[test]
fn documents_name_paths_that_exist() {
    let root = root();
    let top: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir() && entry.file_name() != "target")
        .map(|entry| format!("{}/", entry.file_name().to_str().unwrap()))
        .collect();
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        for code in code(&text) {
            for word in code.split_whitespace() {
                let word = word.trim_start_matches("./").trim_end_matches([',', '.', ':', ';']);
                let inside = top.iter().any(|folder| word.starts_with(folder.as_str()));
                let concrete = !word.contains(['*', '<', '{', '$', '…']);
                if inside && concrete && !root.join(word).exists() {
                    wrong.push(format!("{document}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such paths:\n{}", wrong.join("\n"));
}
