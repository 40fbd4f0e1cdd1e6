//! JSON byte for byte as Go writes it, and read as Go reads it.
//!
//! WAL-G uses two encoders. [`Style::V1`] is the classic one, for sentinels and
//! metadata; [`Style::V2`] is the newer one with its defaults, for
//! `files_metadata.json`. Neither writes any white space.

mod reader;
mod value;

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

pub use reader::JsonReader;
pub use value::Value;

use crate::error::{Error, Kind, Result};

/// Which of Go's encoders to write as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `<`, `>`, `&`, U+2028 and U+2029 inside strings are escaped.
    V1,
    /// Only what JSON itself demands is escaped.
    V2,
}

/// Encodes as Go's classic encoder does; the order of members is kept.
pub fn to_vec_v1(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    to_vec(value, Style::V1)
}

/// Encodes as Go's newer encoder does by default; the order of members is kept.
pub fn to_vec_v2(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    to_vec(value, Style::V2)
}

/// Encodes in the given style; the order of members is kept.
pub fn to_vec(value: &(impl Serialize + ?Sized), style: Style) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Go { style }))
        .map_err(|error| {
            Error::new(Kind::Internal, "a document could not be encoded").with_source(error)
        })?;
    Ok(bytes)
}

/// What makes Go's output differ from that of `serde_json`.
struct Go {
    style: Style,
}

impl Formatter for Go {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(format_float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.style == Style::V2 {
            return writer.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (at, found) in fragment.match_indices(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            for found in found.chars() {
                write!(writer, "\\u{:04x}", u32::from(found))?;
            }
            plain = at + found.len();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

/// The shortest digits that give `value` back, as Go chooses them; with an
/// exponent below 1e-6 and from 1e21 on. `value` must be finite.
pub fn format_float(value: f64) -> String {
    let size = value.abs();
    let text = shortest(value);
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        return format!("{mantissa}e{sign}{exponent}");
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    // How many digits stand before the point: more than there are, or none.
    let before = exponent.parse::<i32>().unwrap_or_default() + 1;
    match usize::try_from(before) {
        Ok(0) | Err(_) => {
            format!("{sign}0.{}{digits}", "0".repeat(before.unsigned_abs() as usize))
        }
        Ok(before) if before >= digits.len() => {
            format!("{sign}{digits}{}", "0".repeat(before - digits.len()))
        }
        Ok(before) => format!("{sign}{}.{}", &digits[..before], &digits[before..]),
    }
}

/// One digit, a fraction and an exponent, as short as it can be. Of two equally
/// near ones Go takes that with the even last digit, Rust the greater.
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{value:.*e}", digits.saturating_sub(1));
    if even.parse() == Ok(value) { even } else { text }
}

/// Bytes as text, each byte that is no UTF-8 replaced by U+FFFD, as Go does.
pub fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// The member of `fields` that Go's reader takes `name` for: the same name, or
/// else one that differs in case only.
pub fn field<'a>(name: &str, fields: &[&'a str]) -> Option<&'a str> {
    let same = fields.iter().find(|field| **field == name);
    same.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(name))).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn both(text: &str) -> (String, String) {
        let encode = |style| String::from_utf8(to_vec(text, style).unwrap()).unwrap();
        (encode(Style::V1), encode(Style::V2))
    }

    #[test]
    fn strings_are_escaped_as_in_go() {
        let (v1, v2) =
            both("<a> & \u{2028}\u{2029} \"\\ \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f} é\u{fffd}😀");
        assert_eq!(
            v1,
            "\"\\u003ca\\u003e \\u0026 \\u2028\\u2029 \\\"\\\\ \\b\\f\\n\\r\\t\\u0001\\u001f\u{7f} é\u{fffd}😀\""
        );
        assert_eq!(
            v2,
            "\"<a> & \u{2028}\u{2029} \\\"\\\\ \\b\\f\\n\\r\\t\\u0001\\u001f\u{7f} é\u{fffd}😀\""
        );
    }

    #[test]
    fn floats_print_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (-753_996_260_176_567.2, "-753996260176567.2"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-7"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (7.711_291_302_231_244e18, "7711291302231244000"),
            (-2.5e-10, "-2.5e-10"),
        ] {
            assert_eq!(format_float(value), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_one_by_one() {
        assert_eq!(to_text(b"a\xff\xfeb\xe2\x82"), "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(to_text("é".as_bytes()), "é");
    }

    #[test]
    fn fields_are_matched_exactly_first() {
        assert_eq!(field("spec", &["Spec", "spec"]), Some("spec"));
        assert_eq!(field("SPEC", &["Spec", "spec"]), Some("Spec"));
        assert_eq!(field("Spe", &["Spec"]), None);
    }
}
