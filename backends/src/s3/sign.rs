//! Signatures of version 4: what proves to the store who sent a request.

use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use walport_engine::error::{Error, Kind, Result};

use super::credentials::Credentials;

/// What the signature says of a body it does not cover.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Everything but what RFC 3986 calls unreserved.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// `key` as it stands in a path.
pub fn encode_path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// `text` as it stands in a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

/// `pairs` as a query string in the order that signatures want.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut list: Vec<_> =
        pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    list.sort();
    let list: Vec<_> = list.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    list.join("&")
}

/// The SHA-256 of the chunks, in hexadecimal.
pub fn sha256<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    chunks.for_each(|chunk| context.update(chunk));
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where and when a signature is valid.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// `s3` or `sts`.
    pub service: &'a str,
    pub now: DateTime<Utc>,
}

/// Signs a request. Its path and query must have been made by [`encode_path`]
/// and [`query`]; `payload` is the SHA-256 of the body or [`UNSIGNED`].
pub fn sign(
    request: &mut Parts,
    credentials: &Credentials,
    payload: &str,
    scope: Scope<'_>,
) -> Result<()> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| {
            Error::new(
                Kind::Config,
                "the access key or the token holds characters that no header may hold",
            )
        })
    };
    let time = scope.now.format("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let authority = request.uri.authority().map_or_else(String::new, ToString::to_string);
    request.headers.insert(header::HOST, value(&authority)?);
    request.headers.insert("x-amz-date", value(&time)?);
    request.headers.insert("x-amz-content-sha256", value(payload)?);
    if let Some(token) = &credentials.token {
        let mut token = value(token)?;
        token.set_sensitive(true);
        request.headers.insert("x-amz-security-token", token);
    }

    let mut names: Vec<&str> = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| is_signed(name))
        .collect();
    names.sort_unstable();
    let signed = names.join(";");
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        request.method,
        request.uri.path(),
        request.uri.query().unwrap_or_default()
    );
    for name in &names {
        let values: Vec<_> = request
            .headers
            .get_all(*name)
            .iter()
            .map(|value| {
                String::from_utf8_lossy(value.as_bytes())
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{signed}\n{payload}"));

    let range = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{range}\n{}",
        sha256(std::iter::once(canonical.as_bytes()))
    );
    let mut key = mac(format!("AWS4{}", credentials.secret).as_bytes(), date.as_bytes());
    for step in [scope.region, scope.service, "aws4_request"] {
        key = mac(key.as_ref(), step.as_bytes());
    }
    let signature = hex(mac(key.as_ref(), text.as_bytes()).as_ref());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{range}, SignedHeaders={signed}, Signature={signature}",
        credentials.key
    );
    let mut authorization = value(&authorization)?;
    authorization.set_sensitive(true);
    request.headers.insert(header::AUTHORIZATION, authorization);
    Ok(())
}

fn is_signed(name: &str) -> bool {
    name.starts_with("x-amz-")
        || matches!(
            name,
            "host" | "content-md5" | "content-type" | "if-none-match" | "if-match" | "range"
        )
}

fn mac(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The examples of the S3 documentation, "Signature Calculations".
    #[test]
    fn the_documented_examples_are_signed_alike() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let now = DateTime::parse_from_rfc3339("2013-05-24T00:00:00Z").unwrap().to_utc();
        let scope = Scope { region: "us-east-1", service: "s3", now };
        let empty = sha256(std::iter::empty());
        for (uri, range, signature) in [
            (
                "https://examplebucket.s3.amazonaws.com/test.txt",
                Some("bytes=0-9"),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "https://examplebucket.s3.amazonaws.com/?lifecycle=",
                None,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
                None,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut request = http::Request::get(uri);
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            sign(&mut parts, &credentials, &empty, scope).unwrap();
            let authorization = parts.headers[header::AUTHORIZATION].to_str().unwrap();
            assert!(
                authorization.ends_with(&format!("Signature={signature}")),
                "{uri}: {authorization}"
            );
        }
    }

    #[test]
    fn names_are_encoded_as_signatures_want_them() {
        assert_eq!(encode_path("a b/é+%41~"), "a%20b/%C3%A9%2B%2541~");
        assert_eq!(
            query(&[("prefix", "a/b"), ("list-type", "2"), ("uploads", "")]),
            "list-type=2&prefix=a%2Fb&uploads="
        );
    }
}
