//! Reading a configuration file: JSON, YAML, TOML or dotenv, as text that the
//! table will check. Messages never show what stands in the file.

use std::collections::HashMap;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// The formats that are read, in the order in which `~/.walg.*` is looked for.
pub const EXTENSIONS: &[&str] = &["json", "toml", "yaml", "yml", "dotenv", "env"];

/// A value of a configuration file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A value as it was written; quoted ones are text even where they look
    /// like a number.
    Scalar { text: String, quoted: bool },
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in order.
    Map(Vec<(String, Node)>),
}

/// Parses `text` in the format that the extension of `path` names.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<(String, Node)>> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let extension =
        if extension.is_empty() { dotfile(path) } else { extension.to_ascii_lowercase() };
    let node = match extension.as_str() {
        "json" => json(text),
        "toml" => toml(text),
        "yaml" | "yml" => yaml(text),
        "env" | "dotenv" => dotenv(text),
        other => Err(format!("the format {other:?} is not read")),
    };
    let broken = |message| {
        Error::new(Kind::Config, format!("configuration file {}: {message}", path.display()))
            .with_hint(format!(
                "Configuration files are {}; the extension says which.",
                EXTENSIONS.join(", ")
            ))
    };
    match node.map_err(broken)? {
        Node::Map(entries) => Ok(entries),
        _ => Err(broken("settings and values are expected, not a single value".to_owned())),
    }
}

/// `.env` is all name and no extension to the standard library.
fn dotfile(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('.').unwrap_or_default().to_ascii_lowercase()
}

impl Node {
    fn text(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quoted: true }
    }

    fn plain(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quoted: false }
    }

    /// Whether this is a null, which is the same as no value at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Node::Scalar { text, quoted: false } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value as JSON, numbers and switches unquoted.
    pub(super) fn to_json(&self) -> Value {
        match self {
            _ if self.is_null() => Value::Null,
            Node::Scalar { text, quoted: false } => match text.as_str() {
                "true" | "True" | "TRUE" => Value::Bool(true),
                "false" | "False" | "FALSE" => Value::Bool(false),
                _ => match serde_json::from_str::<Value>(text) {
                    Ok(number @ Value::Number(_)) => number,
                    _ => Value::String(text.clone()),
                },
            },
            Node::Scalar { text, .. } => Value::String(text.clone()),
            Node::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Node::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

/// JSON text as a node; the message says where it is broken.
pub(super) fn json(text: &str) -> Result<Node, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    Ok(from_json(value))
}

fn from_json(value: Value) -> Node {
    match value {
        Value::Null => Node::plain("null"),
        Value::Bool(value) => Node::plain(value.to_string()),
        Value::Number(value) => Node::plain(value.to_string()),
        Value::String(value) => Node::text(value),
        Value::Array(items) => Node::List(items.into_iter().map(from_json).collect()),
        Value::Object(map) => {
            Node::Map(map.into_iter().map(|(key, value)| (key, from_json(value))).collect())
        }
    }
}

fn toml(text: &str) -> Result<Node, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        // The error's own text quotes the line, which may hold a secret.
        let line = error
            .span()
            .map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("not TOML: {} (line {line})", error.message())
    })?;
    Ok(from_toml(toml::Value::Table(table)))
}

fn from_toml(value: toml::Value) -> Node {
    match value {
        toml::Value::String(value) => Node::text(value),
        toml::Value::Integer(value) => Node::plain(value.to_string()),
        toml::Value::Float(value) => Node::plain(value.to_string()),
        toml::Value::Boolean(value) => Node::plain(value.to_string()),
        toml::Value::Datetime(value) => Node::text(value.to_string()),
        toml::Value::Array(items) => Node::List(items.into_iter().map(from_toml).collect()),
        toml::Value::Table(table) => {
            Node::Map(table.into_iter().map(|(key, value)| (key, from_toml(value))).collect())
        }
    }
}

/// What is open while YAML events arrive.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, Node)>, Option<String>),
}

fn yaml(text: &str) -> Result<Node, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("not YAML: {error}"))?;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, _) => (
                anchor,
                Node::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain },
            ),
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (0, node.clone()),
                None => {
                    return Err(format!("not YAML: unknown alias in line {}", span.start.line()));
                }
            },
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(anchor, Vec::new()));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(anchor, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(anchor, items)) => (anchor, Node::List(items)),
                Some(Open::Map(anchor, entries, _)) => (anchor, Node::Map(entries)),
                None => continue,
            },
            Event::DocumentStart(_) if root.is_some() => {
                return Err("more than one YAML document".to_owned());
            }
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match (key.take(), node) {
                (None, Node::Scalar { text, .. }) => *key = Some(text),
                (None, _) => {
                    return Err(format!("a key in line {} is not a word", span.start.line()));
                }
                // What is merged in is weaker than what stands here.
                (Some(merge), Node::Map(more)) if merge == "<<" => {
                    entries.splice(0..0, more);
                }
                (Some(key), node) => entries.push((key, node)),
            },
        }
    }
    // An empty file sets nothing.
    Ok(root.filter(|root| !root.is_null()).unwrap_or(Node::Map(Vec::new())))
}

fn dotenv(text: &str) -> Result<Node, String> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {} is not KEY=VALUE", index + 1))?;
        let value = unquote(value.trim())
            .ok_or_else(|| format!("a quote in line {} is not closed", index + 1))?;
        entries.push((key.trim().to_owned(), Node::text(value)));
    }
    Ok(Node::Map(entries))
}

/// The value of a dotenv line: `'as it is'`, `"with \n"`, or bare up to ` #`.
fn unquote(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.find('\'').map(|end| rest[..end].to_owned());
    }
    let Some(rest) = value.strip_prefix('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        return Some(value[..end].trim_end().to_owned());
    };
    let mut text = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(name: &str, text: &str) -> Vec<(String, Value)> {
        parse(Path::new(name), text)
            .unwrap()
            .into_iter()
            .map(|(key, node)| (key, node.to_json()))
            .collect()
    }

    #[test]
    fn the_same_settings_in_every_format() {
        let wanted = serde_json::json!({"WALG_A": "x y", "WALG_B": 16, "WALG_C": true});
        let wanted: Vec<_> = wanted.as_object().unwrap().clone().into_iter().collect();
        assert_eq!(read("c.json", r#"{"WALG_A": "x y", "WALG_B": 16, "WALG_C": true}"#), wanted);
        assert_eq!(read("c.toml", "WALG_A = 'x y'\nWALG_B = 16\nWALG_C = true\n"), wanted);
        assert_eq!(read(".walg.yml", "# all\nWALG_A: x y\nWALG_B: 16\nWALG_C: true\n"), wanted);
        let text = |text: &str| Value::String(text.to_owned());
        let dotenv = "export WALG_A='x y'\n\n# no\nWALG_B=16 # yes\nWALG_C=\"t\\\"\\n\"";
        for name in ["c.env", "c.dotenv", ".env"] {
            let wanted = [("WALG_A", "x y"), ("WALG_B", "16"), ("WALG_C", "t\"\n")];
            assert_eq!(
                read(name, dotenv),
                wanted.map(|(key, value)| (key.to_owned(), text(value)))
            );
        }
    }

    #[test]
    fn yaml_keeps_what_was_written_and_knows_anchors() {
        let entries = parse(
            Path::new("c.yaml"),
            "PGPASSWORD: 0123\nBASE: &base {A: 1, B: two}\nMAP:\n  one:\n    <<: *base\n    B: 2\nNONE: ~\nLIST: [1, a]\n",
        )
        .unwrap();
        assert_eq!(entries[0].1, Node::plain("0123"));
        assert_eq!(entries[2].1.to_json(), serde_json::json!({"one": {"A": 1, "B": 2}}));
        assert!(entries[3].1.is_null());
        assert_eq!(entries[4].1.to_json(), serde_json::json!([1, "a"]));
        assert_eq!(read("c.yaml", ""), []);
    }

    #[test]
    fn broken_files_are_errors_that_show_no_values() {
        for (name, text) in [
            ("c.json", r#"{"AWS_SECRET_ACCESS_KEY": "hunter2""#),
            ("c.toml", "AWS_SECRET_ACCESS_KEY = \"hunter2"),
            ("c.toml", "AWS_SECRET_ACCESS_KEY = hunter2"),
            ("c.yaml", "AWS_SECRET_ACCESS_KEY: \"hunter2"),
            ("c.yaml", "hunter2"),
            ("c.yaml", "A: 1\n---\nA: 2"),
            ("c.env", "AWS_SECRET_ACCESS_KEY=\"hunter2"),
            ("c.env", "hunter2"),
            ("c.ini", "a=hunter2"),
            ("config", "a=hunter2"),
        ] {
            let error = parse(Path::new(name), text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{name} {text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
