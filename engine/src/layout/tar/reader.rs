//! Reads tar archives from a stream, as tolerant as WAL-G must be with its own
//! parts, and no more.

use std::io::{self, Read};

use super::header::{
    CHECKSUM, FLAG, Field, GID, GNAME, LINK, MAGIC, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE,
    UID, UNAME, VERSION, checksums,
};
use super::{BLOCK, Header, Kind, padding};
use crate::error::{Error, Result};
use crate::layout::{corrupt, gojson};

/// The largest extended header, in bytes: PAX records, or a long name.
const MAX_RECORDS: u64 = 1 << 20;

/// Reads an archive entry by entry: [`next`](Self::next) gives a header, and until
/// the next call the reader itself gives that entry's payload.
///
/// An archive may end without its two zero blocks, and without the padding of its
/// last entry, as the streamed backups of WAL-G do. A payload that is cut short,
/// a wrong checksum, and anything but zero bytes after the end are corruption.
/// Memory does not depend on what a header claims.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    /// Bytes of the payload not read yet.
    remaining: u64,
    /// Bytes of padding after it.
    padding: u64,
    /// The name of the current entry, for messages.
    name: Vec<u8>,
    /// Bytes read from the input so far.
    position: u64,
    done: bool,
    terminated: bool,
}

/// What extended headers say of the entry after them.
#[derive(Default)]
struct Extra {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uname: Option<Vec<u8>>,
    gname: Option<Vec<u8>>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    mtime: Option<i64>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            remaining: 0,
            padding: 0,
            name: Vec::new(),
            position: 0,
            done: false,
            terminated: false,
        }
    }

    /// Bytes of the current payload that were not read yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// After the end: whether the two zero blocks were there. Only the streamed
    /// parts of WAL-G lack them; elsewhere an archive without them was cut short.
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// What the archive is read from.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The header of the next entry; what is left of the payload before is
    /// skipped. `None` at the end, after all input was read and found sound.
    #[allow(clippy::should_implement_trait)] // an iterator could not lend the payload
    pub fn next(&mut self) -> Result<Option<Header>> {
        let mut extra = Extra::default();
        let mut described = false;
        loop {
            self.skip_entry()?;
            let Some(block) = self.header_block()? else {
                if described {
                    return Err(self.wrong("the entry of an extended header is missing"));
                }
                return Ok(None);
            };
            let size = self.number(&block, SIZE, "size")?;
            match block[FLAG] {
                b'x' => self.records(size, &mut extra)?,
                b'g' => self.begin(size),
                b'L' => extra.name = Some(self.long_text(size)?),
                b'K' => extra.link = Some(self.long_text(size)?),
                b'S' => return Err(self.wrong("sparse files are not supported")),
                flag => return self.entry(&block, flag, size, extra).map(Some),
            }
            described |= block[FLAG] != b'g';
        }
    }

    fn entry(&mut self, block: &[u8; BLOCK], flag: u8, size: u64, extra: Extra) -> Result<Header> {
        let ustar = block[MAGIC] == *b"ustar\0";
        let gnu = block[MAGIC] == *b"ustar " && block[VERSION] == *b" \0";
        let owner =
            |field: Field| if ustar || gnu { text(&block[field]).to_vec() } else { Vec::new() };
        let mut name = text(&block[NAME]).to_vec();
        if ustar && block[PREFIX.start] != 0 {
            name = [text(&block[PREFIX]), b"/", &name].concat();
        }
        let name = extra.name.unwrap_or(name);
        self.name.clone_from(&name);
        let target = extra.link.unwrap_or_else(|| text(&block[LINK]).to_vec());
        let header = Header {
            size: extra.size.unwrap_or(size),
            mode: (self.number(block, MODE, "mode")? & 0o7777) as u32,
            uid: either(extra.uid, || self.small(block, UID, "owner"))?,
            gid: either(extra.gid, || self.small(block, GID, "group"))?,
            uname: gojson::to_text(&extra.uname.unwrap_or_else(|| owner(UNAME))),
            gname: gojson::to_text(&extra.gname.unwrap_or_else(|| owner(GNAME))),
            mtime: either(extra.mtime, || self.signed(block, MTIME, "modification time"))?,
            kind: self.kind(block, flag, &name, target)?,
            name,
        };
        self.begin(header.payload());
        Ok(header)
    }

    fn kind(&self, block: &[u8; BLOCK], flag: u8, name: &[u8], target: Vec<u8>) -> Result<Kind> {
        let device = |field| self.small(block, field, "device number");
        Ok(match flag {
            0 if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' => Kind::File,
            b'1' => Kind::Hardlink { target },
            b'2' => Kind::Symlink { target },
            b'3' => Kind::CharDevice { major: device(MAJOR)?, minor: device(MINOR)? },
            b'4' => Kind::BlockDevice { major: device(MAJOR)?, minor: device(MINOR)? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        })
    }

    /// A payload of `size` bytes begins.
    fn begin(&mut self, size: u64) {
        self.remaining = size;
        self.padding = padding(size);
    }

    /// Reads past what is left of the entry before.
    fn skip_entry(&mut self) -> Result<()> {
        let mut scratch = [0; 4096];
        while self.remaining > 0 {
            self.read(&mut scratch).map_err(failed)?;
        }
        while self.padding > 0 {
            let most = self.padding.min(BLOCK as u64) as usize;
            let count = self.fill(&mut scratch[..most])?;
            if count < most {
                // The last entry of a streamed part lacks its padding.
                self.padding = 0;
                return Ok(());
            }
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// Reads until `room` is full or the input ends.
    fn fill(&mut self, room: &mut [u8]) -> Result<usize> {
        let mut count = 0;
        while count < room.len() {
            match self.input.read(&mut room[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.position += count as u64;
        Ok(count)
    }

    /// The next header block, its checksum proved; `None` at the end.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.done {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let count = self.fill(&mut block)?;
        if block == [0; BLOCK] {
            self.done = true;
            let zeros = count as u64 + self.only_zeros()?;
            self.terminated = zeros >= 2 * BLOCK as u64;
            return Ok(None);
        }
        if count < BLOCK {
            return Err(self.wrong("the archive ends inside a header"));
        }
        let (unsigned, signed) = checksums(&block);
        let sum = octal(&block[CHECKSUM]);
        if sum != Some(unsigned) && sum != Some(signed) {
            return Err(self.wrong("a header with a wrong checksum"));
        }
        Ok(Some(block))
    }

    /// Reads to the end of the input, which must be zeros, and counts them.
    fn only_zeros(&mut self) -> Result<u64> {
        let mut scratch = [0; 4096];
        let mut total = 0;
        loop {
            let count = self.fill(&mut scratch)?;
            if scratch[..count].iter().any(|byte| *byte != 0) {
                return Err(self.wrong("bytes that are not zero after the end of the archive"));
            }
            if count == 0 {
                return Ok(total);
            }
            total += count as u64;
        }
    }

    /// A payload that belongs to the reader itself, of at most 1 MiB.
    fn own_payload(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_RECORDS {
            return Err(self.wrong("an extended header of more than 1 MiB"));
        }
        self.begin(size);
        let mut data = Vec::new();
        Read::take(&mut *self, size).read_to_end(&mut data).map_err(failed)?;
        Ok(data)
    }

    fn long_text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut data = self.own_payload(size)?;
        data.truncate(text(&data).len());
        Ok(data)
    }

    fn records(&mut self, size: u64, extra: &mut Extra) -> Result<()> {
        let data = self.own_payload(size)?;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or_else(|| self.wrong("a PAX record that cannot be read"))?;
            rest = after;
            self.record(key, value, extra)?;
        }
        Ok(())
    }

    /// An empty value says that the header block is right after all.
    fn record(&self, key: &[u8], value: &[u8], extra: &mut Extra) -> Result<()> {
        let empty = value.is_empty();
        let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if is_text && value.contains(&0) {
            return Err(self.wrong("a PAX record that cannot be read"));
        }
        let bytes = (!empty).then(|| value.to_vec());
        let wrong = || {
            self.wrong(format_args!(
                "the PAX record {:?} is not a number in range",
                key.escape_ascii().to_string()
            ))
        };
        match key {
            b"path" => extra.name = bytes,
            b"linkpath" => extra.link = bytes,
            b"uname" => extra.uname = bytes,
            b"gname" => extra.gname = bytes,
            b"uid" | b"gid" | b"size" | b"mtime" if empty => match key {
                b"uid" => extra.uid = None,
                b"gid" => extra.gid = None,
                b"size" => extra.size = None,
                _ => extra.mtime = None,
            },
            b"uid" => extra.uid = Some(decimal(value).ok_or_else(wrong)?),
            b"gid" => extra.gid = Some(decimal(value).ok_or_else(wrong)?),
            b"size" => {
                let size = decimal::<i64>(value).and_then(|size| u64::try_from(size).ok());
                extra.size = Some(size.ok_or_else(wrong)?);
            }
            b"mtime" => extra.mtime = Some(seconds(value).ok_or_else(wrong)?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(self.wrong("sparse files are not supported"));
            }
            _ => {}
        }
        Ok(())
    }

    fn signed(&self, block: &[u8; BLOCK], field: Field, what: &str) -> Result<i64> {
        numeric(&block[field])
            .ok_or_else(|| self.wrong(format_args!("a header with a wrong {what}")))
    }

    fn number(&self, block: &[u8; BLOCK], field: Field, what: &str) -> Result<u64> {
        let number = self.signed(block, field, what)?;
        u64::try_from(number)
            .map_err(|_| self.wrong(format_args!("a header with a negative {what}")))
    }

    fn small(&self, block: &[u8; BLOCK], field: Field, what: &str) -> Result<u32> {
        let number = self.number(block, field, what)?;
        u32::try_from(number).map_err(|_| self.wrong(format_args!("a header with a wrong {what}")))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        let after = if self.name.is_empty() {
            String::new()
        } else {
            format!(", at or after entry \"{}\"", self.name.escape_ascii())
        };
        corrupt(format!("tar archive: {what} (byte {}{after})", self.position))
    }
}

/// The payload of the current entry. A payload that is cut short is an error.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.remaining.min(room.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut room[..most])?;
        if count == 0 {
            return Err(self
                .wrong(format_args!(
                    "the archive ends {} bytes before the end of an entry",
                    self.remaining
                ))
                .into());
        }
        self.remaining -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("reading a tar archive", error)
}

fn either<T>(value: Option<T>, other: impl FnOnce() -> Result<T>) -> Result<T> {
    value.map_or_else(other, Ok)
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in GNU's binary form.
fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement over the whole field, whose first bit only marks the form.
    let flip = if first & 0x40 == 0 { 0 } else { 0xFF };
    let mut number: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = (byte ^ flip) & if at == 0 { 0x7F } else { 0xFF };
        if number >> 56 != 0 {
            return None;
        }
        number = number << 8 | u64::from(byte);
    }
    let number = i64::try_from(number).ok()?;
    Some(if flip == 0 { number } else { !number })
}

/// Octal digits between spaces and NULs; none at all is zero.
fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let from = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let to = field.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    text(&field[from..to]).iter().try_fold(0i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn decimal<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The whole seconds of a PAX time, rounded down.
fn seconds(value: &[u8]) -> Option<i64> {
    let mut halves = value.splitn(2, |byte| *byte == b'.');
    let whole: i64 = decimal(halves.next()?)?;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let below = value.starts_with(b"-") && fraction.iter().any(|digit| *digit != b'0');
    if below { whole.checked_sub(1) } else { Some(whole) }
}

/// The first record of `data`, `<length> <key>=<value>\n`, and what follows it.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = decimal(&data[..space])?;
    let body = data.get(space + 1..length)?;
    let (newline, body) = body.split_last()?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (*newline == b'\n' && !key.is_empty() && !key.contains(&0))
        .then(|| (key, value, &data[length..]))
}
