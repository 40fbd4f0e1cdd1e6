//! Signatures with the shared key of an account.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::request::Parts;
use ring::hmac;

/// The headers whose values stand in the signed text one by one, in this order.
const PLAIN: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The value of the Authorization header for a request with these query pairs,
/// not encoded.
pub fn authorization(account: &str, key: &[u8], parts: &Parts, query: &[(&str, String)]) -> String {
    let text = signed_text(account, parts, query);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    format!("SharedKey {account}:{}", STANDARD.encode(signature.as_ref()))
}

fn signed_text(account: &str, parts: &Parts, query: &[(&str, String)]) -> String {
    let mut text = format!("{}\n", parts.method);
    for name in PLAIN {
        let value = value(&parts.headers, name);
        // A body of nothing has no length here.
        if !(name == "content-length" && value == "0") {
            text.push_str(value);
        }
        text.push('\n');
    }
    let mut own: Vec<_> = parts
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("x-ms-"))
        .collect();
    own.sort_unstable();
    for name in own {
        text.push_str(&format!("{name}:{}\n", value(&parts.headers, name).trim()));
    }
    text.push_str(&format!("/{account}{}", parts.uri.path()));
    let sorted: BTreeMap<_, _> =
        query.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    for (name, value) in sorted {
        text.push_str(&format!("\n{name}:{value}"));
    }
    text
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_signed_text_is_canonical() {
        let request = http::Request::builder()
            .method("PUT")
            .uri("https://acme.blob.core.windows.net/box/a%20b?comp=block&blockid=QQ%3D%3D")
            .header("x-ms-version", "2021-12-02")
            .header("x-ms-date", "Mon, 01 Jan 2024 00:00:00 GMT")
            .header("content-length", "11")
            .header("if-none-match", "*")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let query = [("comp", "block".to_owned()), ("blockid", "QQ==".to_owned())];
        assert_eq!(
            signed_text("acme", &parts, &query),
            "PUT\n\n\n11\n\n\n\n\n\n*\n\n\nx-ms-date:Mon, 01 Jan 2024 00:00:00 GMT\nx-ms-version:2021-12-02\n/acme/box/a%20b\nblockid:QQ==\ncomp:block"
        );
        assert!(authorization("acme", b"key", &parts, &query).starts_with("SharedKey acme:"));
    }
}
