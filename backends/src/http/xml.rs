//! The little XML that stores speak.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use walport_engine::error::{Class, Error, Kind, Result};

/// Walks through a document: `visit` is called at the end of each element with
/// the names from the root to it and its text, children before parents.
pub fn walk(document: &[u8], mut visit: impl FnMut(&[String], String) -> Result<()>) -> Result<()> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(
            Kind::Corrupt,
            format!("the store answered with a document that cannot be read: {why}"),
        )
        .with_class(Class::Transient)
    };
    let mut reader = Reader::from_reader(document);
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut encoded = false;
    loop {
        match reader.read_event().map_err(|error| wrong(&error))? {
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                // Azure writes names that XML cannot hold in percent encoding.
                encoded = start
                    .try_get_attribute("Encoded")
                    .ok()
                    .flatten()
                    .is_some_and(|flag| &*flag.value == b"true");
                text.clear();
            }
            Event::Empty(empty) => {
                path.push(String::from_utf8_lossy(empty.local_name().as_ref()).into_owned());
                visit(&path, String::new())?;
                path.pop();
                text.clear();
            }
            Event::Text(more) => text.push_str(&String::from_utf8_lossy(&more)),
            Event::CData(more) => text.push_str(&String::from_utf8_lossy(&more)),
            Event::GeneralRef(entity) => {
                let name = String::from_utf8_lossy(&entity).into_owned();
                match entity.resolve_char_ref() {
                    Ok(Some(character)) => text.push(character),
                    _ => match resolve_predefined_entity(&name) {
                        Some(known) => text.push_str(known),
                        None => return Err(wrong(&format!("unknown entity &{name};"))),
                    },
                }
            }
            Event::End(_) => {
                let mut text = std::mem::take(&mut text);
                if std::mem::take(&mut encoded) {
                    text = percent_encoding::percent_decode_str(&text)
                        .decode_utf8_lossy()
                        .into_owned();
                }
                visit(&path, text)?;
                path.pop();
            }
            Event::Eof if path.is_empty() => return Ok(()),
            Event::Eof => return Err(wrong(&"it is cut short")),
            _ => {}
        }
    }
}

/// The text of the first element called `name`, wherever it stands.
pub fn find(document: &[u8], name: &str) -> Option<String> {
    let mut found = None;
    let walked = walk(document, |path, text| {
        if found.is_none() && path.last().is_some_and(|last| last == name) {
            found = Some(text);
        }
        Ok(())
    });
    walked.ok().and(found)
}

/// The name of the outermost element.
#[cfg(feature = "s3")]
pub fn root(document: &[u8]) -> Option<String> {
    let mut reader = Reader::from_reader(document);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) | Event::Empty(start) => {
                return Some(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(feature = "s3")]
/// `text` as it stands in a document; control characters as references.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            character if character.is_control() => {
                escaped.push_str(&format!("&#{};", u32::from(character)));
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_are_walked_from_the_leaves() {
        let document =
            br#"<?xml version="1.0"?><a xmlns="x"><b><k>1 &lt;2&#x1;</k><n/></b><k> z </k></a>"#;
        let mut seen = Vec::new();
        walk(document, |path, text| {
            seen.push(format!("{}={text}", path.join("/")));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["a/b/k=1 <2\u{1}", "a/b/n=", "a/b=", "a/k= z ", "a="]);
        assert_eq!(find(document, "k").as_deref(), Some("1 <2\u{1}"));
    }

    #[test]
    fn names_that_xml_cannot_hold_are_decoded() {
        let document = br#"<a><Name Encoded="true">x%EF%BF%BE%2F</Name></a>"#;
        assert_eq!(find(document, "Name").as_deref(), Some("x\u{fffe}/"));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for document in [&b"<a><b>1</b>"[..], b"<a><b>1</a>", b"<a>&nope;</a>"] {
            assert_eq!(walk(document, |_, _| Ok(())).unwrap_err().kind(), Kind::Corrupt);
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn every_key_survives_a_trip() {
        for key in ["a&b<c>\"'", "tab\there", "é☃", "\u{1}"] {
            let document = format!("<K>{}</K>", escape(key));
            assert_eq!(find(document.as_bytes(), "K").as_deref(), Some(key));
        }
    }
}
