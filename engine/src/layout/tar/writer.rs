//! Writes tar archives byte for byte as Go does: USTAR where an entry fits into
//! it, else PAX, else GNU.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::header::{
    CHECKSUM, FLAG, Field, GID, GNAME, LINK, MAGIC, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE,
    UID, UNAME, VERSION, checksums,
};
use super::{BLOCK, Header, Kind, padding};
use crate::error::{self, Error, Result};
use crate::layout::invalid;

/// The longest extended header, as in Go.
const MAX_RECORDS: usize = 1 << 20;

/// Writes an archive: for each entry [`append`](Self::append), then exactly as
/// many bytes as its header says, and in the end [`finish`](Self::finish).
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    /// Bytes of the payload still to come.
    remaining: u64,
    /// Zero bytes to write before the next header.
    padding: u64,
    /// The name of the entry being written, for messages.
    name: String,
}

/// One of the formats a header can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ustar,
    Pax,
    Gnu,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, remaining: 0, padding: 0, name: String::new() }
    }

    /// Bytes of the current payload that are still to be written.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// What the archive is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the header of the next entry. The payload of the one before must
    /// be complete.
    pub fn append(&mut self, header: &Header) -> Result<()> {
        self.pad()?;
        let plan = Plan::of(header)?;
        self.name = header.name_text().into_owned();
        match plan.format {
            Format::Ustar => self.put_ustar(header)?,
            Format::Pax => self.put_pax(header, &plan.records)?,
            Format::Gnu => self.put_gnu(header)?,
        }
        self.remaining = header.payload();
        self.padding = padding(self.remaining);
        Ok(())
    }

    /// Fills what is missing of the current payload with zero bytes, as WAL-G does
    /// for a file that shrank.
    pub fn fill(&mut self) -> Result<()> {
        let count = self.remaining;
        self.zeros(count)?;
        self.remaining = 0;
        Ok(())
    }

    /// Ends the archive with two zero blocks, and gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.pad()?;
        self.zeros(2 * BLOCK as u64)?;
        self.out.flush().map_err(failed)?;
        Ok(self.out)
    }

    /// Gives back what the archive was written to, without ending it: the padding
    /// of the last entry and the two zero blocks are missing. Some of WAL-G's
    /// streamed parts are like that.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Completes the entry before.
    pub fn pad(&mut self) -> Result<()> {
        if self.remaining > 0 {
            return Err(Error::new(
                error::Kind::Internal,
                format!("tar entry {:?} lacks {} bytes of its payload", self.name, self.remaining),
            ));
        }
        let count = std::mem::take(&mut self.padding);
        self.zeros(count)
    }

    fn zeros(&mut self, mut count: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let some = count.min(ZEROS.len() as u64);
            self.put(&ZEROS[..some as usize])?;
            count -= some;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed)
    }

    fn put_ustar(&mut self, header: &Header) -> Result<()> {
        let (prefix, name) = split(&header.name).unwrap_or((b"", &header.name));
        let mut block = Block::of(header, name, <[u8]>::to_vec, Format::Ustar);
        block.text(PREFIX, prefix);
        self.put(&block.sealed())
    }

    fn put_pax(
        &mut self,
        header: &Header,
        records: &BTreeMap<&'static str, Vec<u8>>,
    ) -> Result<()> {
        let mut data = Vec::new();
        for (key, value) in records {
            push_record(&mut data, key, value);
        }
        if data.len() > MAX_RECORDS {
            return Err(invalid(format!(
                "tar entry {:?}: its name or link is longer than 1 MiB",
                header.name_text()
            )));
        }
        if !data.is_empty() {
            self.put_extra(&extended_name(&header.name), b'x', &data, Format::Pax)?;
        }
        self.put(&Block::of(header, &header.name, ascii, Format::Pax).sealed())
    }

    fn put_gnu(&mut self, header: &Header) -> Result<()> {
        for (text, flag) in [(header.name.as_slice(), b'L'), (link(header), b'K')] {
            if text.len() > NAME.len() {
                self.put_extra(b"././@LongLink", flag, &[text, b"\0"].concat(), Format::Gnu)?;
            }
        }
        self.put(&Block::of(header, &header.name, <[u8]>::to_vec, Format::Gnu).sealed())
    }

    /// Writes an entry that describes the one after it.
    fn put_extra(&mut self, name: &[u8], flag: u8, data: &[u8], format: Format) -> Result<()> {
        let mut name = ascii(name);
        name.truncate(NAME.len());
        let mut block = Block::new();
        block.0[FLAG] = flag;
        block.text(NAME, without_slashes(&name));
        for (field, value) in [(MODE, 0), (UID, 0), (GID, 0), (MTIME, 0), (SIZE, data.len() as u64)]
        {
            block.octal(field, value);
        }
        block.mark(format);
        self.put(&block.sealed())?;
        self.put(data)?;
        self.zeros(padding(data.len() as u64))
    }
}

/// Takes the payload of the entry appended last, and no more than that.
impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            return Err(Error::new(
                error::Kind::Internal,
                format!(
                    "tar entry {:?} takes {} more bytes, not {}",
                    self.name,
                    self.remaining,
                    bytes.len()
                ),
            )
            .into());
        }
        let count = self.out.write(bytes)?;
        self.remaining -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("writing a tar archive", error)
}

/// The format of an entry, and what PAX would have to say of it.
struct Plan {
    format: Format,
    records: BTreeMap<&'static str, Vec<u8>>,
}

impl Plan {
    fn of(header: &Header) -> Result<Self> {
        let wrong =
            |what: &str| Err(invalid(format!("tar entry {:?}: {what}", header.name_text())));
        if matches!(header.kind, Kind::Other(_)) {
            return wrong("an entry of an unknown type cannot be written");
        }
        if !matches!(header.kind, Kind::Directory | Kind::Symlink { .. } | Kind::Hardlink { .. })
            && header.name.ends_with(b"/")
        {
            return wrong("only the name of a directory may end in a slash");
        }
        let mut plan = Candidates { ustar: true, pax: true, gnu: true, records: BTreeMap::new() };
        plan.text(Some("path"), &header.name, NAME);
        plan.text(Some("linkpath"), link(header), LINK);
        plan.text(Some("uname"), header.uname.as_bytes(), UNAME);
        plan.text(Some("gname"), header.gname.as_bytes(), GNAME);
        let (major, minor) = device(&header.kind);
        plan.number(None, u64::from(header.mode), MODE);
        plan.number(Some("uid"), u64::from(header.uid), UID);
        plan.number(Some("gid"), u64::from(header.gid), GID);
        plan.number(Some("size"), header.size, SIZE);
        plan.number(None, major, MAJOR);
        plan.number(None, minor, MINOR);
        plan.time(header.mtime);
        if i64::try_from(header.size).is_err() {
            return wrong("the size is out of range");
        }
        let texts = [
            header.name.as_slice(),
            link(header),
            header.uname.as_bytes(),
            header.gname.as_bytes(),
        ];
        if texts.iter().any(|text| text.contains(&0)) {
            return wrong("a name holds a NUL character");
        }
        let format = match plan {
            Candidates { ustar: true, .. } => Format::Ustar,
            Candidates { pax: true, .. } => Format::Pax,
            Candidates { gnu: true, .. } => Format::Gnu,
            _ => return wrong("no tar format can hold its attributes"),
        };
        Ok(Self { format, records: plan.records })
    }
}

/// The formats that are still possible.
struct Candidates {
    ustar: bool,
    pax: bool,
    gnu: bool,
    records: BTreeMap<&'static str, Vec<u8>>,
}

impl Candidates {
    fn text(&mut self, key: Option<&'static str>, text: &[u8], field: Field) {
        let long = text.len() > field.len();
        if long && !matches!(key, Some("path" | "linkpath")) {
            self.gnu = false;
        }
        if long || !is_ascii(text) {
            if key != Some("path") || split(text).is_none() {
                self.ustar = false;
            }
            self.record(key, text.to_vec());
        }
    }

    fn number(&mut self, key: Option<&'static str>, number: u64, field: Field) {
        self.gnu &= fits_base256(field.len(), number);
        if !fits_octal(field.len(), number) {
            self.ustar = false;
            self.record(key, number.to_string().into_bytes());
        }
    }

    fn time(&mut self, seconds: i64) {
        if !u64::try_from(seconds).is_ok_and(|seconds| fits_octal(MTIME.len(), seconds)) {
            self.ustar = false;
            self.record(Some("mtime"), seconds.to_string().into_bytes());
        }
    }

    fn record(&mut self, key: Option<&'static str>, value: Vec<u8>) {
        match key {
            Some(key) => drop(self.records.insert(key, value)),
            None => self.pax = false,
        }
    }
}

/// A header block being filled.
struct Block([u8; BLOCK]);

impl Block {
    fn new() -> Self {
        Self([0; BLOCK])
    }

    fn of(header: &Header, name: &[u8], clean: impl Fn(&[u8]) -> Vec<u8>, format: Format) -> Self {
        let mut block = Self::new();
        block.0[FLAG] = header.kind.flag();
        block.text(NAME, &clean(name));
        block.text(LINK, &clean(link(header)));
        block.text(UNAME, &clean(header.uname.as_bytes()));
        block.text(GNAME, &clean(header.gname.as_bytes()));
        let (major, minor) = device(&header.kind);
        for (field, value) in [
            (MODE, u64::from(header.mode)),
            (UID, u64::from(header.uid)),
            (GID, u64::from(header.gid)),
            (SIZE, header.size),
            (MAJOR, major),
            (MINOR, minor),
        ] {
            if format == Format::Gnu {
                block.numeric(field, value);
            } else {
                block.octal(field, value);
            }
        }
        match u64::try_from(header.mtime) {
            Ok(seconds) if format != Format::Gnu => block.octal(MTIME, seconds),
            Err(_) if format != Format::Gnu => block.octal(MTIME, 0),
            Ok(seconds) if fits_octal(MTIME.len(), seconds) => block.octal(MTIME, seconds),
            _ => block.base256(MTIME, header.mtime),
        }
        block.mark(format);
        block
    }

    /// Copies `text`, cut to the field; a shorter one ends in a NUL.
    fn text(&mut self, field: Field, text: &[u8]) {
        let room = field.len();
        let some = &text[..text.len().min(room)];
        self.0[field.start..field.start + some.len()].copy_from_slice(some);
        // A name cut after a slash would look like one of a directory.
        if text.len() > room && some.ends_with(b"/") {
            let length = without_slashes(&some[..room - 1]).len();
            self.0[field.start + length] = 0;
        }
    }

    /// Octal digits with leading zeros and a NUL; zero if it does not fit.
    fn octal(&mut self, field: Field, value: u64) {
        let value = if fits_octal(field.len(), value) { value } else { 0 };
        let digits = format!("{value:0width$o}", width = field.len() - 1);
        self.text(field, digits.as_bytes());
    }

    fn numeric(&mut self, field: Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) if !fits_octal(field.len(), value.cast_unsigned()) => {
                self.base256(field, value);
            }
            _ => self.octal(field, value),
        }
    }

    /// GNU's form of what octal digits cannot say: two's complement, the first bit set.
    fn base256(&mut self, field: Field, value: i64) {
        let extension = if value < 0 { 0xFF } else { 0 };
        let bytes = value.to_be_bytes();
        let room = &mut self.0[field];
        room.fill(extension);
        let count = room.len().min(bytes.len());
        let at = room.len() - count;
        room[at..].copy_from_slice(&bytes[bytes.len() - count..]);
        room[0] |= 0x80;
    }

    fn mark(&mut self, format: Format) {
        let (magic, version) =
            if format == Format::Gnu { (b"ustar ", b" \0") } else { (b"ustar\0", b"00") };
        self.0[MAGIC].copy_from_slice(magic);
        self.0[VERSION].copy_from_slice(version);
    }

    /// The block with its checksum: six octal digits, a NUL and a space.
    fn sealed(mut self) -> [u8; BLOCK] {
        let (sum, _) = checksums(&self.0);
        self.0[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

fn link(header: &Header) -> &[u8] {
    match &header.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => target,
        _ => b"",
    }
}

fn device(kind: &Kind) -> (u64, u64) {
    match kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            (u64::from(*major), u64::from(*minor))
        }
        _ => (0, 0),
    }
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| (1..0x80).contains(byte))
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| (1..0x80).contains(byte)).collect()
}

fn without_slashes(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = text.strip_suffix(b"/") {
        text = shorter;
    }
    text
}

/// Whether a field of `length` bytes holds `value` as octal digits and a NUL.
fn fits_octal(length: usize, value: u64) -> bool {
    let bits = (length - 1) * 3;
    bits >= 64 || value >> bits == 0
}

/// Whether a field of `length` bytes holds `value` in GNU's binary form.
fn fits_base256(length: usize, value: u64) -> bool {
    let bits = (length - 1) * 8;
    if bits >= 64 { i64::try_from(value).is_ok() } else { value >> bits == 0 }
}

/// The prefix and the rest of a name too long for its field, cut at a slash so
/// that both fit; `None` if it is short, not ASCII, or has no such slash.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.len() || !is_ascii(name) {
        return None;
    }
    let searched = if name.len() > PREFIX.len() + 1 {
        PREFIX.len() + 1
    } else {
        name.len() - usize::from(name.ends_with(b"/"))
    };
    let slash = name[..searched].iter().rposition(|byte| *byte == b'/')?;
    let rest = &name[slash + 1..];
    (slash > 0 && slash <= PREFIX.len() && !rest.is_empty() && rest.len() <= NAME.len())
        .then(|| (&name[..slash], rest))
}

/// The name of the entry with PAX records: `PaxHeaders.0` before the last part
/// of the name, the whole tidied up lexically.
fn extended_name(name: &[u8]) -> Vec<u8> {
    let cut = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, file) = name.split_at(cut);
    clean(&[folder, b"/PaxHeaders.0/", file].concat(), name.starts_with(b"/"))
}

/// Removes empty and `.` parts of a path, and resolves `..` where it can.
fn clean(path: &[u8], rooted: bool) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let mut cleaned = if rooted { b"/".to_vec() } else { Vec::new() };
    cleaned.extend(parts.join(&b'/'));
    cleaned
}

/// Adds `<length> <key>=<value>\n`, the length counting itself.
fn push_record(data: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut size = rest + rest.to_string().len();
    size = rest + size.to_string().len();
    data.extend_from_slice(format!("{size} {key}=").as_bytes());
    data.extend_from_slice(value);
    data.push(b'\n');
}
