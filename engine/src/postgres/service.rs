//! The service file: named sets of connection parameters.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The parameters of service `name`, taken from the first of `files` that has
/// it. Keys are libpq's keywords (`host`, `dbname`, `sslmode`).
pub(super) fn load(name: &str, files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                if let Some(section) = parse(&text, name, file)? {
                    return Ok(section);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format!("service file {}", file.display()), error));
            }
        }
    }
    let searched: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Err(Error::new(Kind::Config, format!("service {name:?} is not defined")).with_hint(format!(
        "Define [{name}] in one of {}, or unset PGSERVICE.",
        searched.join(", ")
    )))
}

fn parse(text: &str, name: &str, file: &Path) -> Result<Option<BTreeMap<String, String>>> {
    let mut section: Option<BTreeMap<String, String>> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if section.is_some() {
                break;
            }
            if header == name {
                section = Some(BTreeMap::new());
            }
            continue;
        }
        let Some(section) = &mut section else { continue };
        // The line itself may hold a password, so only its number is told.
        let (key, value) = line.split_once('=').ok_or_else(|| {
            Error::new(
                Kind::Config,
                format!("line {} of service file {} is not `key=value`", index + 1, file.display()),
            )
        })?;
        section.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
    }
    Ok(section)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_named_section_is_read_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pg_service.conf");
        std::fs::write(
            &file,
            "# comment\n[one]\nhost=a\nport = 1\n\n[two]\nhost=b\npassword=x=y\nhost=c\n[three]\nhost=d\n",
        )
        .unwrap();
        let missing = directory.path().join("none");
        let two = load("two", &[missing.clone(), file.clone()]).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two["host"], "b");
        assert_eq!(two["password"], "x=y");
        let error = load("four", &[missing, file.clone()]).unwrap_err();
        assert!(error.hint().unwrap().contains("[four]"));
        std::fs::write(&file, "[one]\nmy secret\n").unwrap();
        let error = load("one", &[file]).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }
}
