//! Any JSON value: user data, and small documents on their way to a struct.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::JsonReader;
use crate::error::Result;

/// Any JSON value, as it was written: numbers keep their digits, objects their
/// order and duplicates.
///
/// It is encoded as Go encodes what it decoded without a schema: members sorted
/// by the bytes of their names, the last of duplicates wins, and numbers pass
/// through a double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: its text. Never beyond the range of a double.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads a whole document.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut reader = JsonReader::in_memory(json, json.len());
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one that fits.
    pub fn as_integer<N: std::str::FromStr>(&self) -> Option<N> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members in their order, if it is an object.
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The last member with exactly this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let found = self.as_object()?.iter().rev().find(|(member, _)| member == name);
        found.map(|(_, value)| value)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) => {
                let number = text.parse::<f64>().map_err(serde::ser::Error::custom)?;
                serializer.serialize_f64(number)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                let sorted: BTreeMap<_, _> =
                    members.iter().map(|(name, value)| (name, value)).collect();
                serializer.collect_map(sorted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::to_vec_v1;
    use super::*;

    fn again(json: &str) -> String {
        String::from_utf8(to_vec_v1(&Value::parse(json.as_bytes()).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn user_data_is_encoded_again_as_go_does() {
        assert_eq!(
            again(
                r#" {"b":1.0,"a":[null,true,"<x>",{}],"é":1e21,"B":7711291302231243574,"a":-0.0} "#
            ),
            r#"{"B":7711291302231244000,"a":-0,"b":1,"é":1e+21}"#
        );
        assert_eq!(
            again("[1E2,0.10,-5e-7,[],{\"\":\"\\u0041\"}]"),
            "[100,0.1,-5e-7,[],{\"\":\"A\"}]"
        );
        assert_eq!(again("\"\\u2028\""), "\"\\u2028\"");
    }

    #[test]
    fn parts_are_reached_by_name() {
        let value = Value::parse(br#"{"a":1,"A":2,"a":"x","n":[true]}"#).unwrap();
        assert_eq!(value.get("a").unwrap().as_str(), Some("x"));
        assert_eq!(value.get("A").unwrap().as_integer::<u8>(), Some(2));
        assert_eq!(value.get("n").unwrap().as_array().unwrap()[0].as_bool(), Some(true));
        assert!(value.get("b").is_none() && Value::Null.get("a").is_none());
        assert!(Value::parse(b"{} {}").is_err() && Value::parse(b"").is_err());
    }

    pub(in super::super) fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| Value::Number(number.to_string())),
            proptest::num::f64::NORMAL
                .prop_map(|number| Value::Number(super::super::format_float(number))),
            ".{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((".{0,6}", inner), 0..5).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_again_changes_nothing(value in values()) {
            let once = to_vec_v1(&value).unwrap();
            let twice = to_vec_v1(&Value::parse(&once).unwrap()).unwrap();
            prop_assert_eq!(String::from_utf8(once).unwrap(), String::from_utf8(twice).unwrap());
        }

        #[test]
        fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = Value::parse(&bytes) {
                prop_assert!(to_vec_v1(&value).is_ok());
            }
        }
    }
}
