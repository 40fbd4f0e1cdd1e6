//! Addresses: what goes into paths and queries, encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved.
const ALL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, with slashes left as they are.
const PATH: &AsciiSet = &ALL.remove(b'/');

/// `text` as one segment of a path, or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ALL).to_string()
}

/// `text` as a path.
pub(crate) fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Pairs as a query or a form, without the question mark.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let list: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    list.join("&")
}
