//! Settings: one table of options. Help, the reference page, validation and
//! `config check` all come from its rows.
//!
//! A value is text until it is loaded; loading checks it against the type of
//! its row, so reading a setting later cannot fail.

mod engine;
mod table;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use engine::SETTINGS;
pub use table::{Setting, Table, Type};
pub use value::{parse_bool, parse_duration, parse_size};

use crate::error::{Error, Kind, Result};

/// Where a value came from, weakest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The row of the table.
    Default,
    /// A configuration file: its path, and the key in it.
    File(String, String),
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path, key) => write!(f, "file {path} ({key})"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The effective configuration.
#[derive(Clone)]
pub struct Settings {
    table: Arc<Table>,
    values: BTreeMap<&'static str, (String, Source)>,
}

impl Settings {
    /// The defaults of `table`, and nothing else.
    pub fn new(table: Arc<Table>) -> Self {
        let values = table
            .rows()
            .filter_map(|row| Some((row.name, (row.default?.to_owned(), Source::Default))))
            .collect();
        Self { table, values }
    }

    /// Sets the setting that `name` names (its own name, an alias, or a
    /// `WALG_`/`WALE_` form), if `source` is at least as strong as where the
    /// present value came from.
    ///
    /// Fails with [`Kind::Config`] if the name is unknown or the value is not of
    /// the row's type; a secret value is never part of the message.
    pub fn set(&mut self, name: &str, value: &str, source: Source) -> Result<()> {
        let row = self.table.find(name).ok_or_else(|| self.table.unknown(name))?;
        row.check(value).map_err(|error| error.context(&source))?;
        if self.values.get(row.name).is_none_or(|(_, present)| *present <= source) {
            self.values.insert(row.name, (value.to_owned(), source));
        }
        Ok(())
    }

    /// The table behind the values.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The value and its source, under the row's own name.
    pub fn entry(&self, name: &str) -> Option<(&str, &Source)> {
        debug_assert!(self.table.find(name).is_some(), "{name} is in no table");
        self.values.get(name).map(|(text, source)| (text.as_str(), source))
    }

    /// The text of a setting; `None` if it is neither set nor has a default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.entry(name).map(|(text, _)| text)
    }

    /// The text of a setting that must be there.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| {
            Error::new(Kind::Config, format!("{name} is not set"))
                .with_hint(format!("Set {name} in the environment or in the configuration file."))
        })
    }

    /// A switch; false if it is not set.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).and_then(|text| parse_bool(text).ok()).unwrap_or(false)
    }

    /// A whole number; `None` if it is not set.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| text.trim().parse().ok())
    }

    /// A size in bytes; `None` if it is not set.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| parse_size(text).ok())
    }

    /// A time; `None` if it is not set.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.text(name).and_then(|text| parse_duration(text).ok())
    }

    /// Whether a file, the environment or a flag gave the value.
    pub fn is_set(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|(_, source)| *source != Source::Default)
    }

    /// Every effective value with its row and source, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &str, &Source)> {
        self.values.iter().filter_map(|(name, (text, source))| {
            self.table.find(name).map(|row| (row, text.as_str(), source))
        })
    }
}

/// Prints names and sources, and the values of what is not secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(row, text, source)| {
                (row.name, (if row.secret { "(hidden)" } else { text }, source))
            }))
            .finish()
    }
}
