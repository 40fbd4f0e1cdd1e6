//! Loading: flag, then environment, then configuration file, then default.
//!
//! Everything that is wrong is collected, so that `config check` can show all
//! of it; every other command stops at the first problem.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, Node};
use super::{Settings, Source, Table, Type};
use crate::error::{Error, Kind, Result};

pub use super::file::EXTENSIONS;

/// What settings are made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Settings given as flags: the flag as written, without its value, and the
    /// value. The name in capitals is a name of the table.
    pub flags: Vec<(String, String)>,
    /// The file of `--config`.
    pub config: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where `.walg.json` and so on are looked for when no file is named.
    pub homes: Vec<PathBuf>,
}

/// Settings, and what was found on the way.
#[derive(Debug)]
pub struct Loaded {
    /// What could be used.
    pub settings: Settings,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    /// What an operator should know, but can wait.
    pub warnings: Vec<Error>,
    /// What stops every command.
    pub problems: Vec<Error>,
}

impl Loaded {
    /// The settings, or the first problem.
    pub fn checked(self) -> Result<Settings> {
        match self.problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(self.settings),
        }
    }
}

/// Reads every source and checks every value.
pub fn load(table: Arc<Table>, sources: &Sources) -> Loaded {
    let mut loader = Loader {
        loaded: Loaded {
            settings: Settings::new(table.clone()),
            file: None,
            warnings: Vec::new(),
            problems: Vec::new(),
        },
        table,
    };
    let unknown = loader.environment(&sources.environment);
    loader.flags(&sources.flags);
    loader.file(sources);
    let mut loaded = loader.loaded;
    let strict = loaded.settings.flag("WALPORT_STRICT");
    if strict { &mut loaded.problems } else { &mut loaded.warnings }.extend(unknown);
    loaded
}

struct Loader {
    table: Arc<Table>,
    loaded: Loaded,
}

impl Loader {
    fn keep(&mut self, result: Result<()>) {
        self.loaded.problems.extend(result.err());
    }

    /// Applies the environment and returns an error for each unknown name.
    fn environment(&mut self, variables: &[(OsString, OsString)]) -> Vec<Error> {
        let mut unknown = Vec::new();
        let mut known = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if value.is_empty() {
                continue;
            }
            match (self.table.find_exact(name), value.to_str()) {
                (Some(row), Some(value)) => known.push((row.strength(name), name, value)),
                (Some(_), None) => self.keep(Err(Error::new(
                    Kind::Config,
                    format!("environment {name}: not UTF-8 text"),
                ))),
                (None, _) if name.starts_with("WALG_") || name.starts_with("WALPORT_") => {
                    unknown.push(self.table.unknown(name).context("environment"));
                }
                (None, _) => {}
            }
        }
        // Of several names of one setting, the strongest comes last and wins.
        known.sort();
        for (_, name, value) in known {
            self.set(
                name,
                &Node::Scalar { text: value.to_owned(), quoted: true },
                Source::Environment(name.to_owned()),
            );
        }
        unknown.sort_by_key(ToString::to_string);
        unknown
    }

    fn flags(&mut self, flags: &[(String, String)]) {
        for (flag, value) in flags {
            let name = name_of_flag(flag);
            self.set(
                &name,
                &Node::Scalar { text: value.clone(), quoted: true },
                Source::Flag(flag.clone()),
            );
        }
    }

    fn file(&mut self, sources: &Sources) {
        let named = sources
            .config
            .clone()
            .or_else(|| self.loaded.settings.text("WALG_CONFIG_PATH").map(PathBuf::from));
        let Some(path) = named.or_else(|| default_file(&sources.homes)) else { return };
        self.loaded.file = Some(path.clone());
        let entries = std::fs::read_to_string(&path)
            .map_err(|error| {
                Error::io(format!("cannot read the configuration file {}", path.display()), error)
            })
            .map_err(|error| {
                Error::new(Kind::Config, error.to_string())
                    .with_hint("Correct --config or WALG_CONFIG_PATH, or make the file readable.")
            })
            .and_then(|text| file::parse(&path, &text));
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.keep(Err(error)),
        };
        entries.sort_by_key(|(key, _)| {
            self.table.find(key).map_or(std::cmp::Reverse(0), |row| row.strength(key))
        });
        let shown = path.display().to_string();
        for (key, node) in entries {
            self.set(&key, &node, Source::File(shown.clone(), key.clone()));
        }
    }

    /// Sets one value of any source.
    fn set(&mut self, name: &str, node: &Node, source: Source) {
        let Some(row) = self.table.find(name) else {
            return self.keep(Err(self.table.unknown(name).context(place(&source))));
        };
        if node.is_null() {
            return;
        }
        let text = match (node, row.kind) {
            (Node::Scalar { text, .. }, _) => text.trim_end_matches(['\r', '\n']).to_owned(),
            (_, Type::Json | Type::Map | Type::Blocks) => node.to_json().to_string(),
            _ => {
                let message =
                    format!("{source}: {} takes one value, not a list or a map", row.name);
                return self.keep(Err(Error::new(Kind::Config, message)));
            }
        };
        let stronger = self
            .loaded
            .settings
            .entry(row.name)
            .is_none_or(|(_, present)| present.rank() <= source.rank());
        let result = self.loaded.settings.set(name, &text, source.clone());
        let fine = result.is_ok();
        self.keep(result);
        if row.kind == Type::Blocks && stronger && fine {
            self.blocks(row.name, node, &text, &source);
        }
    }

    /// Takes the blocks of a `Blocks` setting apart.
    fn blocks(&mut self, setting: &'static str, node: &Node, text: &str, source: &Source) {
        let parsed;
        let node = match node {
            Node::Scalar { .. } => match file::json(text) {
                Ok(node) => {
                    parsed = node;
                    &parsed
                }
                Err(message) => {
                    return self.keep(Err(Error::new(
                        Kind::Config,
                        format!("{source}: {setting}: {message}"),
                    )));
                }
            },
            node => node,
        };
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("{source}: {setting}: {what}"))
                .with_hint("Give each storage a name, and under it its settings.")
        };
        let Node::Map(blocks) = node else {
            return self.keep(Err(wrong("a map of storages is expected")));
        };
        self.loaded.settings.clear_blocks(setting);
        for (name, block) in blocks {
            let name = name.to_lowercase();
            if name == "default" {
                self.keep(Err(wrong("the name default is the primary storage's")));
                continue;
            }
            let Node::Map(entries) = block else {
                self.keep(Err(wrong(&format!("{name} must be a map of settings"))));
                continue;
            };
            for (key, value) in entries {
                let place = match source {
                    Source::File(path, _) => {
                        Source::File(path.clone(), format!("{setting}.{name}.{key}"))
                    }
                    other => other.clone(),
                };
                let result = match value {
                    Node::Scalar { text, .. } => self.loaded.settings.set_in_block(
                        setting,
                        &name,
                        key,
                        text.trim_end_matches(['\r', '\n']),
                        place,
                    ),
                    _ => Err(wrong(&format!("{name}.{key} takes one value"))),
                };
                self.keep(result);
            }
        }
    }
}

/// `--walg-s3-prefix` is `WALG_S3_PREFIX`.
pub fn name_of_flag(flag: &str) -> String {
    flag.trim_start_matches('-').to_uppercase().replace('-', "_")
}

fn place(source: &Source) -> String {
    match source {
        Source::File(path, _) => format!("file {path}"),
        Source::Environment(_) => "environment".to_owned(),
        other => other.to_string(),
    }
}

/// The first `.walg.*` there is. One that exists but cannot be looked at counts:
/// reading it then says why.
fn default_file(homes: &[PathBuf]) -> Option<PathBuf> {
    let is_there = |path: &Path| !matches!(path.symlink_metadata(), Err(error) if absent(&error));
    homes
        .iter()
        .flat_map(|home| {
            EXTENSIONS.iter().map(move |extension| home.join(format!(".walg.{extension}")))
        })
        .find(|path| is_there(path))
}

/// A home that is not there, or that this user may not enter, holds no file.
fn absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}
