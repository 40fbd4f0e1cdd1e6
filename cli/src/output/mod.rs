//! What goes to stdout: data and nothing else. Everything here is a function
//! from values to bytes, except [`write`].

pub mod backups;
pub mod table;

use std::io::{self, Write};

use serde::Serialize;
use walport_engine::layout::gojson;
use walport_engine::settings::Setting;
use walport_engine::{Error, Result};

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Columns, padded by one space.
    Plain,
    /// A boxed table with numbered rows.
    Pretty,
    /// One line of JSON.
    Json,
    /// JSON, indented by four spaces.
    JsonPretty,
}

impl Form {
    /// The form that `--pretty` and `--json` ask for.
    pub fn new(pretty: bool, json: bool) -> Self {
        match (pretty, json) {
            (false, false) => Form::Plain,
            (true, false) => Form::Pretty,
            (false, true) => Form::Json,
            (true, true) => Form::JsonPretty,
        }
    }
}

/// Writes to stdout. A reader that went away, as `head` does, is no error.
pub fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Error::io("cannot write to stdout", error)),
    }
}

/// JSON as Go writes it, with a final newline; indented by four spaces if `pretty`.
pub fn json(value: &(impl Serialize + ?Sized), pretty: bool) -> Result<Vec<u8>> {
    let mut bytes = gojson::to_vec_v1(value)?;
    if pretty {
        bytes = indent(&bytes);
    }
    bytes.push(b'\n');
    Ok(bytes)
}

/// Indents compact JSON. Empty lists and maps stay on their line, as in Go.
fn indent(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let (mut quoted, mut escaped) = (false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth * 4, b' ');
    };
    for (index, &byte) in compact.iter().enumerate() {
        if quoted {
            out.push(byte);
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(compact.get(index + 1), Some(b'}' | b']')) {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                if !matches!(compact[index - 1], b'{' | b'[') {
                    line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                quoted = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

/// The value of a setting as it may be shown.
pub fn masked<'a>(row: &Setting, value: &'a str) -> &'a str {
    if row.secret && !value.is_empty() { "--HIDDEN--" } else { value }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn indented_json_is_what_serde_makes_of_it_too() {
        let value = serde_json::json!([{"a": "x{[,:\\\"]}\\", "b": [], "c": {}, "d": [1, {"e": null}]}, []]);
        let mut wanted = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        value
            .serialize(&mut serde_json::Serializer::with_formatter(&mut wanted, formatter))
            .unwrap();
        wanted.push(b'\n');
        assert_eq!(
            String::from_utf8(json(&value, true).unwrap()).unwrap(),
            String::from_utf8(wanted).unwrap()
        );
    }

    #[test]
    fn an_empty_list_is_a_pair_of_brackets() {
        assert_eq!(json(&[(); 0], false).unwrap(), b"[]\n");
        assert_eq!(json(&[(); 0], true).unwrap(), b"[]\n");
    }
}
