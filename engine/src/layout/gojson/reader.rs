//! A JSON reader over a stream, in memory that does not grow with the document.
//!
//! It reads what Go's classic decoder reads: bytes that are no UTF-8 and halves
//! of surrogate pairs become U+FFFD. The caller walks the document and says
//! what it expects; what it does not know it skips.

use std::io::{self, BufRead, BufReader, Read};

use super::{Value, to_text};
use crate::error::{Error, Result};
use crate::layout::corrupt;

/// The longest string or number of a streamed document, in bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// The deepest nesting that is skipped, as in Go.
const MAX_SKIPPED_DEPTH: usize = 10_000;
/// The deepest nesting that is read into a [`Value`].
const MAX_VALUE_DEPTH: usize = 128;
/// How much is read from the stream at once, in bytes.
const BUFFER: usize = 64 << 10;

/// Reads one JSON document from a stream.
#[derive(Debug)]
pub struct JsonReader<R> {
    input: BufReader<R>,
    position: u64,
    max_text: usize,
}

impl<R: Read> JsonReader<R> {
    /// Reads from `input`; a string longer than 1 MiB is refused.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER, input), position: 0, max_text: MAX_TEXT }
    }

    /// Reads from `input`, of which `size` bytes are held in memory already: no
    /// string is refused for its length.
    pub fn in_memory(input: R, size: usize) -> Self {
        Self {
            input: BufReader::with_capacity(size.clamp(1, BUFFER), input),
            position: 0,
            max_text: size,
        }
    }

    /// The error for what stands at the current position.
    pub fn wrong(&self, what: impl std::fmt::Display) -> Error {
        corrupt(format!("not the JSON expected: {what} at byte {}", self.position))
    }

    fn buffer(&mut self) -> Result<&[u8]> {
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("reading a JSON document", error)),
                Ok(_) => break,
            }
        }
        Ok(self.input.buffer())
    }

    fn advance(&mut self, count: usize) {
        self.input.consume(count);
        self.position += count as u64;
    }

    fn peek_raw(&mut self) -> Result<Option<u8>> {
        Ok(self.buffer()?.first().copied())
    }

    /// The next byte that is no white space, left in place.
    fn peek(&mut self) -> Result<u8> {
        self.skip_space()?;
        self.peek_raw()?.ok_or_else(|| self.wrong("the document ends early"))
    }

    fn skip_space(&mut self) -> Result<()> {
        while matches!(self.peek_raw()?, Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
        Ok(())
    }

    fn take_raw(&mut self) -> Result<u8> {
        let byte = self.peek_raw()?.ok_or_else(|| self.wrong("the document ends early"))?;
        self.advance(1);
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek()? == byte {
            self.advance(1);
            Ok(())
        } else {
            Err(self.wrong(format_args!("no {:?}", char::from(byte))))
        }
    }

    fn literal(&mut self, word: &str) -> Result<()> {
        for byte in word.bytes() {
            if self.peek_raw()? != Some(byte) {
                return Err(self.wrong(format_args!("no {word}")));
            }
            self.advance(1);
        }
        Ok(())
    }

    /// Whether the next value is `null`, which is then taken.
    pub fn null(&mut self) -> Result<bool> {
        let found = self.peek()? == b'n';
        if found {
            self.literal("null")?;
        }
        Ok(found)
    }

    /// Reads an object, or `null`, which counts as one without members. `member`
    /// gets each name and must take its value.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, String) -> Result<()>,
    ) -> Result<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.advance(1);
            return Ok(());
        }
        loop {
            self.expect_quote()?;
            let name = self.text()?;
            self.expect(b':')?;
            member(self, name)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Reads an array, or `null`, which counts as an empty one. `item` must take
    /// one value each time it is called.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.advance(1);
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    /// Takes the comma before another member or item, or the closing `end`.
    fn more(&mut self, end: u8) -> Result<bool> {
        let byte = self.peek()?;
        if byte != b',' && byte != end {
            return Err(self.wrong(format_args!("neither ',' nor {:?}", char::from(end))));
        }
        self.advance(1);
        Ok(byte == b',')
    }

    /// Reads a string; `None` for `null`.
    pub fn string(&mut self) -> Result<Option<String>> {
        if self.null()? {
            return Ok(None);
        }
        self.expect_quote()?;
        self.text().map(Some)
    }

    /// Reads `true` or `false`; `None` for `null`.
    pub fn boolean(&mut self) -> Result<Option<bool>> {
        if self.null()? {
            return Ok(None);
        }
        let value = self.peek()? == b't';
        self.literal(if value { "true" } else { "false" })?;
        Ok(Some(value))
    }

    /// Reads a whole number; `None` for `null`.
    pub fn integer<N: std::str::FromStr>(&mut self) -> Result<Option<N>> {
        if self.null()? {
            return Ok(None);
        }
        let text = self.number()?;
        text.parse()
            .map(Some)
            .map_err(|_| self.wrong(format_args!("{text} is not a number in range")))
    }

    fn expect_quote(&mut self) -> Result<()> {
        if self.peek()? == b'"' {
            self.advance(1);
            Ok(())
        } else {
            Err(self.wrong("no string"))
        }
    }

    /// The rest of a string, after its opening quote.
    fn text(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            let buffer = self.buffer()?;
            let plain = buffer.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F));
            let length = plain.unwrap_or(buffer.len());
            bytes.extend_from_slice(&buffer[..length]);
            self.advance(length);
            if bytes.len() > self.max_text {
                return Err(self.wrong("a string longer than 1 MiB"));
            }
            if plain.is_some() || length == 0 {
                match self.take_raw()? {
                    b'"' => break,
                    b'\\' => self.escape(&mut bytes)?,
                    _ => return Err(self.wrong("a control character inside a string")),
                }
            }
        }
        String::from_utf8(bytes).or_else(|wrong| Ok(to_text(wrong.as_bytes())))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let plain = match self.take_raw()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(bytes),
            _ => return Err(self.wrong("an unknown escape inside a string")),
        };
        bytes.push(plain);
        Ok(())
    }

    /// What follows `\u`. The first half of a pair waits for its second; a half
    /// that stands alone becomes U+FFFD.
    fn unicode_escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut push = |unit: u32| {
            let found = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
            bytes.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
        };
        let mut unit = self.hex4()?;
        while (0xD800..0xDC00).contains(&unit) {
            if self.peek_raw()? != Some(b'\\') {
                break;
            }
            self.advance(1);
            if self.peek_raw()? != Some(b'u') {
                push(unit);
                return self.escape(bytes);
            }
            self.advance(1);
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                unit = 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
            } else {
                push(unit);
                unit = second;
            }
        }
        push(unit);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.take_raw()?).to_digit(16);
            unit = unit << 4 | digit.ok_or_else(|| self.wrong("a wrong escape inside a string"))?;
        }
        Ok(unit)
    }

    /// The text of a number, checked against JSON's grammar.
    fn number(&mut self) -> Result<String> {
        let mut text = String::new();
        self.skip_space()?;
        while let Some(byte @ (b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) = self.peek_raw()? {
            if text.len() >= self.max_text {
                return Err(self.wrong("a number longer than 1 MiB"));
            }
            text.push(char::from(byte));
            self.advance(1);
        }
        if is_number(text.as_bytes()) { Ok(text) } else { Err(self.wrong("no number")) }
    }

    /// Reads any value into memory. Nesting deeper than 128 is refused, and so is
    /// a number beyond the range of a double.
    pub fn value(&mut self) -> Result<Value> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_VALUE_DEPTH {
            return Err(self.wrong("values nested deeper than 128"));
        }
        Ok(match self.peek()? {
            b'n' => self.literal("null").map(|()| Value::Null)?,
            b't' | b'f' => Value::Bool(self.boolean()?.unwrap_or_default()),
            b'"' => Value::String(self.string()?.unwrap_or_default()),
            b'[' => {
                let mut items = Vec::new();
                self.array(|reader| {
                    items.push(reader.value_at(depth + 1)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            b'{' => {
                let mut members = Vec::new();
                self.object(|reader, name| {
                    members.push((name, reader.value_at(depth + 1)?));
                    Ok(())
                })?;
                Value::Object(members)
            }
            _ => {
                let text = self.number()?;
                if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(self.wrong(format_args!("{text} is not a number in range")));
                }
                Value::Number(text)
            }
        })
    }

    /// Takes any value and forgets it.
    pub fn skip(&mut self) -> Result<()> {
        // A loop, not a recursion: the nesting is chosen by the document.
        let mut open = Vec::new();
        loop {
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.advance(1);
                    if open.len() == MAX_SKIPPED_DEPTH {
                        return Err(self.wrong("values nested deeper than 10000"));
                    }
                    let end = if opening == b'{' { b'}' } else { b']' };
                    if self.peek()? != end {
                        open.push(end);
                        self.skip_name(end)?;
                        continue;
                    }
                    self.advance(1);
                }
                b'"' => drop(self.string()?),
                b't' | b'f' => drop(self.boolean()?),
                b'n' => drop(self.null()?),
                _ => drop(self.number()?),
            }
            loop {
                let Some(&end) = open.last() else { return Ok(()) };
                if self.more(end)? {
                    self.skip_name(end)?;
                    break;
                }
                open.pop();
            }
        }
    }

    /// Inside an object, takes the name of the member that follows.
    fn skip_name(&mut self, end: u8) -> Result<()> {
        if end == b'}' {
            self.expect_quote()?;
            self.text()?;
            self.expect(b':')?;
        }
        Ok(())
    }

    /// Checks that nothing but white space follows the document.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space()?;
        match self.peek_raw()? {
            None => Ok(()),
            Some(_) => Err(self.wrong("something after the end")),
        }
    }
}

fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (length > 0).then(|| &text[length..])
    }
    fn read(text: &[u8]) -> Option<&[u8]> {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let mut text = text.strip_prefix(b"0").or_else(|| digits(text))?;
        if let Some(fraction) = text.strip_prefix(b".") {
            text = digits(fraction)?;
        }
        if let [b'e' | b'E', exponent @ ..] = text {
            let sign = usize::from(matches!(exponent.first(), Some(b'+' | b'-')));
            text = digits(&exponent[sign..])?;
        }
        Some(text)
    }
    read(text).is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes one at a time, and an interruption before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn text(json: &str) -> Result<String> {
        let mut reader = JsonReader::new(Drip(json.as_bytes(), false));
        let text = reader.string()?.unwrap();
        reader.end()?;
        Ok(text)
    }

    #[test]
    fn strings_are_read_as_in_go() {
        assert_eq!(
            text(r#""a\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00é""#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\té😀é"
        );
        // Halves of pairs, alone, before another half, before another escape.
        assert_eq!(text(r#""\ud83d""#).unwrap(), "\u{fffd}");
        assert_eq!(text(r#""\ude00x""#).unwrap(), "\u{fffd}x");
        assert_eq!(text(r#""\ud83d\ud83d\ude00""#).unwrap(), "\u{fffd}😀");
        assert_eq!(text(r#""\ud83d\n""#).unwrap(), "\u{fffd}\n");
        assert_eq!(text(r#""\ud83dA""#).unwrap(), "\u{fffd}A");
        for bad in
            [r#"""#, r#""\"#, r#""\x""#, r#""\u12""#, r#""\u12g4""#, "\"\n\"", "x", r#""a"b"#]
        {
            assert_eq!(text(bad).unwrap_err().kind(), crate::Kind::Corrupt, "{bad}");
        }
        let mut reader = JsonReader::new(&b"\"a\xffb\""[..]);
        assert_eq!(reader.string().unwrap().unwrap(), "a\u{fffd}b");
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for good in ["0", "-0", "10", "1.5", "1e5", "1E+5", "-1.25e-10"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1.5.5", "1-1", "--1", "1e5e5"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
        assert_eq!(
            JsonReader::new(&b"18446744073709551615"[..]).integer::<u64>().unwrap(),
            Some(u64::MAX)
        );
        assert!(JsonReader::new(&b"18446744073709551616"[..]).integer::<u64>().is_err());
        assert!(JsonReader::new(&b"1.0"[..]).integer::<u64>().is_err());
        assert!(JsonReader::new(&b"1e400"[..]).value().is_err());
        assert_eq!(JsonReader::new(&b" null"[..]).integer::<u64>().unwrap(), None);
    }

    #[test]
    fn nesting_and_length_have_limits() {
        let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(JsonReader::new(&deep(10_000)[..]).skip().is_ok());
        assert!(JsonReader::new(&deep(10_001)[..]).skip().is_err());
        assert!(JsonReader::new(&deep(129)[..]).value().is_ok());
        assert!(JsonReader::new(&deep(130)[..]).value().is_err());
        let long = format!("\"{}\"", "x".repeat(MAX_TEXT + 1));
        assert!(JsonReader::new(long.as_bytes()).string().is_err());
        assert!(JsonReader::in_memory(long.as_bytes(), long.len()).string().is_ok());
    }

    #[test]
    fn an_error_of_the_stream_is_not_an_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Error::new(crate::Kind::Unavailable, "gone").into())
            }
        }
        let mut reader = JsonReader::new(b"{\"a\":".chain(Broken));
        let error = reader.object(|reader, _| reader.skip()).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Unavailable);
    }

    proptest! {
        #[test]
        fn skip_and_value_accept_the_same(json in "[\\[\\]{}\":,0-9a\\-.e \\\\tfnulrs]{0,24}") {
            let (mut one, mut two) = (JsonReader::new(json.as_bytes()), JsonReader::new(json.as_bytes()));
            let skipped = one.skip().and_then(|()| one.end()).is_ok();
            let read = two.value().and_then(|_| two.end()).is_ok();
            prop_assert_eq!(skipped, read);
            let known = serde_json::from_str::<serde_json::Value>(&json).is_ok();
            prop_assert!(read || !known, "serde_json reads {}", json);
        }
    }
}
