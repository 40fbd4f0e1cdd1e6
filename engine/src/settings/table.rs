//! The table of options.

use std::collections::HashMap;

use super::value::{parse_bool, parse_duration, parse_size};
use crate::error::{Error, Kind, Result};

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Any text.
    Text,
    /// `true`, `false`, `1`, `0`, `yes`, `no`, `on`, `off`.
    Bool,
    /// A whole number within the range, both ends included.
    Int(i64, i64),
    /// A number with a point.
    Float,
    /// Bytes: a number, or one with `k`, `m`, `g`, `t`, `KiB`, `MB` and so on
    /// (all powers of 1024).
    Size,
    /// A time as Go writes it: `30s`, `1m30s`, `500ms`; a bare number is seconds.
    Duration,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A JSON document.
    Json,
    /// A path of the local file system.
    Path,
    /// A map; only in a configuration file (or as JSON text).
    Map,
    /// Named blocks of settings; only in a configuration file (or as JSON
    /// text). See [`Settings::block`](super::Settings::block).
    Blocks,
}

/// One row: everything there is to know about an option.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The canonical name, in capitals: `WALG_COMPRESSION_METHOD`, `AWS_REGION`.
    pub name: &'static str,
    /// Other names of the same setting, weaker than `name`, strongest first.
    pub aliases: &'static [&'static str],
    /// `X` is also read as `WALG_X` and `WALE_X`, as WAL-G does for everything
    /// that belongs to a store.
    pub namespaced: bool,
    /// What a value must look like.
    pub kind: Type,
    /// The value when nothing sets it.
    pub default: Option<&'static str>,
    /// Never printed, logged or shown.
    pub secret: bool,
    /// Known, so that configurations of WAL-G are accepted, but without effect
    /// so far. The reference and `config check` say so.
    pub pending: bool,
    /// The heading it stands under in the reference: `WAL`, `S3`, `PostgreSQL`.
    pub group: &'static str,
    /// One or two sentences for the operator, with unit and range.
    pub help: &'static str,
}

impl Setting {
    /// A row of text without default: a start for the rest.
    pub const fn new(name: &'static str, group: &'static str, help: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            namespaced: false,
            kind: Type::Text,
            default: None,
            secret: false,
            pending: false,
            group,
            help,
        }
    }

    /// Sets the type.
    pub const fn kind(mut self, kind: Type) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the default.
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// Adds other names.
    pub const fn aliases(mut self, names: &'static [&'static str]) -> Self {
        self.aliases = names;
        self
    }

    /// Also read as `WALG_X` and `WALE_X`.
    pub const fn namespaced(mut self) -> Self {
        self.namespaced = true;
        self
    }

    /// Never shown.
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Known, but without effect so far.
    pub const fn pending(mut self) -> Self {
        self.pending = true;
        self
    }

    /// The names it can be given under, strongest first.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.name.to_owned()];
        names.extend(self.aliases.iter().map(|&alias| alias.to_owned()));
        if self.namespaced {
            let bare = self.name.strip_prefix("WALG_").unwrap_or(self.name);
            for form in [format!("WALG_{bare}"), format!("WALE_{bare}")] {
                if !names.contains(&form) {
                    names.push(form);
                }
            }
        }
        names
    }

    /// How strong `name` is among the names of this setting: 0 is the strongest.
    /// Reversed, so that sorting brings the strongest last.
    pub fn strength(&self, name: &str) -> std::cmp::Reverse<usize> {
        let names = self.names();
        std::cmp::Reverse(
            names.iter().position(|known| known.eq_ignore_ascii_case(name)).unwrap_or(names.len()),
        )
    }

    /// The flag that sets it: `--walg-compression-method`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_lowercase().replace('_', "-"))
    }

    /// Checks a value against the type.
    pub fn check(&self, value: &str) -> Result<()> {
        let text = value.trim();
        let wanted = match self.kind {
            Type::Text | Type::Path => return Ok(()),
            Type::Bool => match parse_bool(text) {
                Ok(_) => return Ok(()),
                Err(()) => "true or false".to_owned(),
            },
            Type::Int(low, high) => match text.parse::<i64>() {
                Ok(number) if (low..=high).contains(&number) => return Ok(()),
                _ if high == i64::MAX => format!("a whole number from {low}"),
                _ => format!("a whole number from {low} to {high}"),
            },
            Type::Float => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => return Ok(()),
                _ => "a number".to_owned(),
            },
            Type::Size => match parse_size(text) {
                Ok(_) => return Ok(()),
                Err(()) => "a size in bytes, such as 1048576 or 64MiB".to_owned(),
            },
            Type::Duration => match parse_duration(text) {
                Ok(_) => return Ok(()),
                Err(()) => "a time, such as 30s or 1m30s".to_owned(),
            },
            Type::Choice(words) => {
                if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
                    return Ok(());
                }
                format!("one of {}", words.join(", "))
            }
            Type::Json | Type::Map | Type::Blocks => {
                match serde_json::from_str::<serde_json::Value>(text) {
                    Ok(_) => return Ok(()),
                    Err(_) => "a JSON document".to_owned(),
                }
            }
        };
        let shown = if self.secret { "the value given".to_owned() } else { format!("{value:?}") };
        Err(Error::new(Kind::Config, format!("{} must be {wanted}, not {shown}", self.name)))
    }
}

/// Every row that this program knows.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<&'static Setting>,
    by_name: HashMap<String, &'static Setting>,
}

impl Table {
    /// A table of these rows. The first row of a name wins.
    pub fn new(rows: impl IntoIterator<Item = &'static Setting>) -> Self {
        let mut table = Self::default();
        for row in rows {
            if table.by_name.contains_key(row.name) {
                continue;
            }
            table.rows.push(row);
            table.by_name.insert(row.name.to_owned(), row);
        }
        // What one row is called is never the other name of another one:
        // UPLOAD_CONCURRENCY of a store is not WALG_UPLOAD_CONCURRENCY.
        for row in table.rows.clone() {
            for name in row.names() {
                table.by_name.entry(name).or_insert(row);
            }
        }
        table
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = &'static Setting> + '_ {
        self.rows.iter().copied()
    }

    /// The row a name stands for, in any case.
    pub fn find(&self, name: &str) -> Option<&'static Setting> {
        self.by_name.get(name).or_else(|| self.by_name.get(&name.to_uppercase())).copied()
    }

    /// The row a name stands for, in exactly this case, as in the environment.
    pub fn find_exact(&self, name: &str) -> Option<&'static Setting> {
        self.by_name.get(name).copied()
    }

    /// The known name nearest to `name`, if one is near.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let upper = name.to_uppercase();
        self.by_name
            .keys()
            .map(|known| (distance(known, &upper), known))
            .filter(|(distance, known)| *distance <= 1 + known.len() / 5)
            .min()
            .map(|(_, known)| known.as_str())
    }

    /// The error for a name that is in no row.
    pub fn unknown(&self, name: &str) -> Error {
        let error = Error::new(Kind::Config, format!("{name} is not a setting"));
        match self.nearest(name) {
            Some(near) => error.with_hint(format!("Did you mean {near}?")),
            None => error.with_hint("See docs/settings.md or `walport flags` for all settings."),
        }
    }
}

/// The number of single-character edits between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above + 1).min(row[j] + 1).min(diagonal + usize::from(x != *y));
            diagonal = above;
        }
    }
    row[b.len()]
}
