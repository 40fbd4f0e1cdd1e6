//! Settings: one table of options. Help, the reference page, validation and
//! `config check` all come from its rows.
//!
//! A value is text until it is loaded; loading checks it against the type of
//! its row, so reading a setting later cannot fail.

mod engine;
mod file;
mod load;
mod table;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use engine::{ENCRYPTION, SETTINGS};
pub use load::{EXTENSIONS, Loaded, Sources, load, name_of_flag};
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

impl Source {
    /// How strong a source is; of equal ones the later value wins.
    fn rank(&self) -> u8 {
        match self {
            Source::Default => 0,
            Source::File(..) => 1,
            Source::Environment(_) => 2,
            Source::Flag(_) => 3,
        }
    }
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

type Values = BTreeMap<&'static str, (String, Source)>;

/// The effective configuration.
#[derive(Clone)]
pub struct Settings {
    table: Arc<Table>,
    values: Values,
    /// By setting and block name: what the block sets itself.
    blocks: BTreeMap<&'static str, BTreeMap<String, Values>>,
}

impl Settings {
    /// The defaults of `table`, and nothing else.
    pub fn new(table: Arc<Table>) -> Self {
        let values = table
            .rows()
            .filter_map(|row| Some((row.name, (row.default?.to_owned(), Source::Default))))
            .collect();
        Self { table, values, blocks: BTreeMap::new() }
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
        if self.values.get(row.name).is_none_or(|(_, present)| present.rank() <= source.rank()) {
            self.values.insert(row.name, (value.to_owned(), source));
        }
        Ok(())
    }

    /// The names of the blocks of a setting such as `WALG_FAILOVER_STORAGES`, in
    /// order.
    pub fn block_names(&self, setting: &str) -> impl Iterator<Item = &str> {
        self.blocks.get(setting).into_iter().flat_map(|blocks| blocks.keys().map(String::as_str))
    }

    /// The settings of one block, by its name in any case: what the block says
    /// itself, then what is said outside of it. The target of the primary store
    /// (`..._PREFIX`) is not taken over, `WALG_STORAGE_PREFIX` is.
    pub fn block(&self, setting: &str, name: &str) -> Option<Self> {
        let own = self.blocks.get(setting)?.get(&name.to_lowercase())?;
        let inherited = |name: &str| !name.ends_with("_PREFIX") || name == "WALG_STORAGE_PREFIX";
        let mut values = self.values.clone();
        values.retain(|name, _| inherited(name));
        values.extend(own.iter().map(|(name, value)| (*name, value.clone())));
        Some(Self { table: self.table.clone(), values, blocks: BTreeMap::new() })
    }

    /// What a block says itself.
    pub fn block_entries(
        &self,
        setting: &str,
        name: &str,
    ) -> impl Iterator<Item = (&'static Setting, &str, &Source)> {
        let own = self.blocks.get(setting).and_then(|blocks| blocks.get(name));
        own.into_iter().flat_map(|values| self.rows_of(values))
    }

    fn clear_blocks(&mut self, setting: &'static str) {
        self.blocks.remove(setting);
    }

    fn set_in_block(
        &mut self,
        setting: &'static str,
        block: &str,
        name: &str,
        value: &str,
        source: Source,
    ) -> Result<()> {
        let row = self.table.find(name).ok_or_else(|| self.table.unknown(name).context(&source))?;
        row.check(value).map_err(|error| error.context(&source))?;
        let blocks = self.blocks.entry(setting).or_default();
        blocks.entry(block.to_owned()).or_default().insert(row.name, (value.to_owned(), source));
        Ok(())
    }

    /// Forgets a setting, its default too.
    pub fn unset(&mut self, name: &str) {
        if let Some(row) = self.table.find(name) {
            self.values.remove(row.name);
        }
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
        self.rows_of(&self.values)
    }

    fn rows_of<'a>(
        &'a self,
        values: &'a Values,
    ) -> impl Iterator<Item = (&'static Setting, &'a str, &'a Source)> {
        values.iter().filter_map(|(name, (text, source))| {
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

#[cfg(test)]
mod tests;
