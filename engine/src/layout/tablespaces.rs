//! The tablespace spec of a sentinel: where the data directory and the
//! tablespaces were.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::gojson::{self, Value};
use super::{corrupt, invalid};
use crate::error::{Error, Result};

const BASE_PREFIX: &str = "base_prefix";
const TABLESPACES: &str = "tablespaces";

/// Where the data directory and its tablespaces were when a backup was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TablespaceSpec {
    /// The data directory, without a slash at its end.
    pub base_prefix: String,
    /// The tablespaces, in the order in which they were found.
    pub tablespaces: Vec<Tablespace>,
}

/// One tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tablespace {
    /// The name of its link in `pg_tblspc`: the tablespace's oid.
    #[serde(skip)]
    pub name: String,
    /// What the link points to, without a slash at its end.
    #[serde(rename = "loc")]
    pub location: String,
    /// The link, relative to the data directory: `pg_tblspc/<name>`.
    pub link: String,
}

impl Tablespace {
    /// The tablespace linked as `pg_tblspc/<name>` to `location`.
    pub fn new(name: impl Into<String>, location: &str) -> Self {
        let name = name.into();
        Self { link: format!("pg_tblspc/{name}"), location: without_slash(location), name }
    }
}

impl TablespaceSpec {
    /// A spec without tablespaces.
    pub fn new(base_prefix: &str) -> Self {
        Self { base_prefix: without_slash(base_prefix), tablespaces: Vec::new() }
    }

    /// Reads the spec's JSON.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Self::from_value(&Value::parse(json).map_err(|error| error.context("tablespace spec"))?)
    }

    /// Reads the spec from a member of a document.
    pub fn from_value(value: &Value) -> Result<Self> {
        let wrong = |what: &str| corrupt(format!("tablespace spec: {what}"));
        let base = value.get(BASE_PREFIX).and_then(Value::as_str).map(without_slash);
        let base_prefix = base.ok_or_else(|| wrong("no \"base_prefix\""))?;
        let mut tablespaces = Vec::new();
        // As in WAL-G, a list that is not one counts as empty.
        for item in value.get(TABLESPACES).and_then(Value::as_array).unwrap_or_default() {
            let name =
                item.as_str().ok_or_else(|| wrong("a name in \"tablespaces\" is no string"))?;
            let text = |field: &str| {
                let found =
                    value.get(name).and_then(|entry| entry.get(field)).and_then(Value::as_str);
                found
                    .map(str::to_owned)
                    .ok_or_else(|| wrong(&format!("tablespace {name:?} has no {field:?}")))
            };
            tablespaces.push(Tablespace {
                name: name.to_owned(),
                location: text("loc")?,
                link: text("link")?,
            });
        }
        Ok(Self { base_prefix, tablespaces })
    }

    /// The spec as JSON, names sorted.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        gojson::to_vec_v1(self)
    }

    /// The tablespace linked as `name`.
    pub fn get(&self, name: &str) -> Option<&Tablespace> {
        self.tablespaces.iter().find(|tablespace| tablespace.name == name)
    }

    /// Moves tablespaces: each pair is the name of a link (an oid) and the
    /// absolute path it shall point to. A name that the spec does not have is an
    /// error, and then nothing is moved.
    pub fn remap<N: AsRef<str>, P: AsRef<str>>(&mut self, moves: &[(N, P)]) -> Result<()> {
        let mut moved = self.tablespaces.clone();
        for (name, path) in moves {
            let (name, path) = (name.as_ref(), path.as_ref());
            if !path.starts_with('/') {
                return Err(invalid(format!(
                    "tablespace {name} cannot move to {path:?}, which is not an absolute path"
                )));
            }
            let tablespace = moved.iter_mut().find(|tablespace| tablespace.name == name);
            let tablespace = tablespace.ok_or_else(|| self.unknown(name))?;
            tablespace.location = without_slash(path);
        }
        self.tablespaces = moved;
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> =
            self.tablespaces.iter().map(|tablespace| tablespace.name.as_str()).collect();
        invalid(format!("the backup has no tablespace {name:?}")).with_hint(if known.is_empty() {
            "This backup has no tablespaces.".to_owned()
        } else {
            format!("Its tablespaces are: {}.", known.join(", "))
        })
    }
}

impl Serialize for TablespaceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Member<'a> {
            Text(&'a str),
            Names(Vec<&'a str>),
            Tablespace(&'a Tablespace),
        }
        if self.base_prefix.is_empty() {
            return Err(serde::ser::Error::custom("the tablespace spec has no data directory"));
        }
        let mut members = BTreeMap::new();
        let names = self.tablespaces.iter().map(|tablespace| tablespace.name.as_str());
        members.insert(BASE_PREFIX, Member::Text(&self.base_prefix));
        members.insert(TABLESPACES, Member::Names(names.collect()));
        for tablespace in &self.tablespaces {
            members.insert(&tablespace.name, Member::Tablespace(tablespace));
        }
        serializer.collect_map(members)
    }
}

fn without_slash(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SPEC: &str = r#"{"16385":{"loc":"/ts/b","link":"pg_tblspc/16385"},"16384":{"loc":"/ts/a","link":"pg_tblspc/16384"},"tablespaces":["16385","16384"],"base_prefix":"/data/"}"#;

    fn text(spec: &TablespaceSpec) -> String {
        String::from_utf8(spec.to_json().unwrap()).unwrap()
    }

    #[test]
    fn order_is_kept_and_members_are_sorted() {
        let spec = TablespaceSpec::parse(SPEC.as_bytes()).unwrap();
        assert_eq!(spec.base_prefix, "/data");
        assert_eq!(
            spec.tablespaces,
            [Tablespace::new("16385", "/ts/b"), Tablespace::new("16384", "/ts/a/")]
        );
        assert_eq!(
            text(&spec),
            r#"{"16384":{"loc":"/ts/a","link":"pg_tblspc/16384"},"16385":{"loc":"/ts/b","link":"pg_tblspc/16385"},"base_prefix":"/data","tablespaces":["16385","16384"]}"#
        );
        assert_eq!(
            text(&TablespaceSpec::new("/data/")),
            r#"{"base_prefix":"/data","tablespaces":[]}"#
        );
        assert!(TablespaceSpec::default().to_json().is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (bad, named) in [
            ("{}", "base_prefix"),
            (r#"{"base_prefix":1}"#, "base_prefix"),
            (r#"{"base_prefix":"/d","tablespaces":[1]}"#, "no string"),
            (r#"{"base_prefix":"/d","tablespaces":["1"]}"#, "\"1\""),
            (r#"{"base_prefix":"/d","tablespaces":["1"],"1":{"loc":"/x"}}"#, "\"link\""),
            ("[", "JSON"),
        ] {
            let error = TablespaceSpec::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Corrupt);
            assert!(error.to_string().contains(named), "{error}");
        }
        assert!(
            TablespaceSpec::parse(br#"{"base_prefix":"/d","tablespaces":null}"#)
                .unwrap()
                .tablespaces
                .is_empty()
        );
    }

    #[test]
    fn tablespaces_move_all_or_none() {
        let mut spec = TablespaceSpec::parse(SPEC.as_bytes()).unwrap();
        let before = spec.clone();
        let error = spec.remap(&[("16384", "/new"), ("1", "/x")]).unwrap_err();
        assert_eq!(error.hint(), Some("Its tablespaces are: 16385, 16384."));
        assert!(spec.remap(&[("16384", "new")]).is_err());
        assert_eq!(spec, before);
        spec.remap(&[("16384", "/new/")]).unwrap();
        assert_eq!(spec.get("16384"), Some(&Tablespace::new("16384", "/new")));
        assert_eq!(spec.get("16385"), before.get("16385"));
        assert_eq!(spec.tablespaces[0].name, "16385");
    }

    proptest! {
        #[test]
        fn a_spec_read_and_written_is_the_same(
            base in "/[a-z<é/]{0,10}[a-z]", spaces in prop::collection::btree_map("[0-9]{1,6}", "/[a-z&]{1,10}", 0..5)
        ) {
            let mut spec = TablespaceSpec::new(&base);
            spec.tablespaces = spaces.iter().map(|(name, path)| Tablespace::new(name.as_str(), path)).rev().collect();
            prop_assert_eq!(TablespaceSpec::parse(&spec.to_json().unwrap()).unwrap(), spec);
        }
    }
}
