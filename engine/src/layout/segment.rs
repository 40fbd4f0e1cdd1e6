//! WAL segments and the names of files in the WAL archive.

use super::{Lsn, invalid};
use crate::error::Result;

/// The smallest and the largest segment size PostgreSQL knows, in bytes.
pub const SEGMENT_SIZES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 30);
/// The segment size of a cluster that was not told otherwise, in bytes.
pub const DEFAULT_SEGMENT_SIZE: u64 = 16 << 20;

/// One segment of the write-ahead log: a timeline, and the segment's number
/// counted from position 0/0 in units of the segment size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// The timeline.
    pub timeline: u32,
    /// The number: the position of the first byte divided by the segment size.
    pub number: u64,
}

impl Segment {
    /// The segment of `timeline` that holds the byte at `lsn`.
    pub const fn of(timeline: u32, lsn: Lsn, segment_size: u64) -> Self {
        Self { timeline, number: lsn.0 / at_least_one(segment_size) }
    }

    /// Reads a name of 24 upper-case hexadecimal digits. The last group must be
    /// one that a cluster with this segment size (in bytes) can have.
    pub fn parse(name: &str, segment_size: u64) -> Result<Self> {
        Self::read(name, segment_size).ok_or_else(|| {
            invalid(format!(
                "{name:?} is not the name of a WAL segment of {} MiB",
                segment_size >> 20
            ))
        })
    }

    fn read(name: &str, segment_size: u64) -> Option<Self> {
        if !is_upper_hex(name, 24) {
            return None;
        }
        let group = |at: usize| u32::from_str_radix(&name[at..at + 8], 16).ok();
        let (timeline, log, rest) = (group(0)?, u64::from(group(8)?), u64::from(group(16)?));
        let per_log = segments_per_log(segment_size);
        (rest < per_log).then(|| Self { timeline, number: log * per_log + rest })
    }

    /// The name of the segment's file: 24 upper-case hexadecimal digits.
    pub fn name(&self, segment_size: u64) -> String {
        let per_log = segments_per_log(segment_size);
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / per_log, self.number % per_log)
    }

    /// The segment that follows on the same timeline.
    pub const fn next(&self) -> Self {
        Self { timeline: self.timeline, number: self.number.saturating_add(1) }
    }

    /// The segment before on the same timeline; `None` before the first.
    pub const fn previous(&self) -> Option<Self> {
        match self.number.checked_sub(1) {
            Some(number) => Some(Self { timeline: self.timeline, number }),
            None => None,
        }
    }

    /// The position of the segment's first byte.
    pub const fn start(&self, segment_size: u64) -> Lsn {
        Lsn(self.number.saturating_mul(segment_size))
    }

    /// The position after the segment's last byte.
    pub const fn end(&self, segment_size: u64) -> Lsn {
        Lsn(self.number.saturating_add(1).saturating_mul(segment_size))
    }
}

const fn at_least_one(size: u64) -> u64 {
    if size == 0 { 1 } else { size }
}

/// How many segments share the middle group of a name: 4 GiB of log.
const fn segments_per_log(segment_size: u64) -> u64 {
    at_least_one((1 << 32) / at_least_one(segment_size))
}

/// Whether `text` is `length` upper-case hexadecimal digits.
pub(super) fn is_upper_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

/// What a file of the WAL archive is, by its name without a codec's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WalFile {
    /// A whole segment: `000000010000000000000001`.
    Segment(Segment),
    /// The last segment of a timeline that ended in it, or one that is still
    /// being received: `000000010000000000000001.partial`.
    Partial(Segment),
    /// The note of a base backup: `000000010000000000000001.00000028.backup`.
    BackupHistory(Segment, u32),
    /// The ancestry of a timeline: `00000002.history`.
    History(u32),
    /// WAL-G's map of changed blocks of 16 segments: `000000010000000000000010_delta`.
    Delta(Segment),
    /// Anything else.
    Other,
}

impl WalFile {
    /// Tells the kind of file from its name, with the segment size in bytes.
    pub fn classify(name: &str, segment_size: u64) -> Self {
        Self::read(name, segment_size).unwrap_or(Self::Other)
    }

    fn read(name: &str, segment_size: u64) -> Option<Self> {
        let segment = |text: &str| Segment::read(text, segment_size);
        if let Some(stem) = name.strip_suffix(".partial") {
            return segment(stem).map(Self::Partial);
        }
        if let Some(stem) = name.strip_suffix("_delta") {
            return segment(stem).map(Self::Delta);
        }
        if let Some(stem) = name.strip_suffix(".history") {
            return hex_u32(stem).map(Self::History);
        }
        if let Some(stem) = name.strip_suffix(".backup") {
            let (stem, offset) = stem.split_once('.')?;
            return Some(Self::BackupHistory(segment(stem)?, hex_u32(offset)?));
        }
        segment(name).map(Self::Segment)
    }

    /// The segment, where the name holds one.
    pub const fn segment(&self) -> Option<Segment> {
        match self {
            Self::Segment(segment)
            | Self::Partial(segment)
            | Self::BackupHistory(segment, _)
            | Self::Delta(segment) => Some(*segment),
            Self::History(_) | Self::Other => None,
        }
    }
}

fn hex_u32(text: &str) -> Option<u32> {
    is_upper_hex(text, 8).then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// The name of the file with the ancestry of `timeline`: `00000002.history`.
pub fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const MIB16: u64 = DEFAULT_SEGMENT_SIZE;

    #[test]
    fn names_follow_the_segment_size() {
        let segment = Segment::of(1, "1/FF000028".parse().unwrap(), MIB16);
        assert_eq!(segment, Segment { timeline: 1, number: 0x1FF });
        assert_eq!(segment.name(MIB16), "0000000100000001000000FF");
        assert_eq!(segment.next().name(MIB16), "000000010000000200000000");
        assert_eq!(segment.start(MIB16).to_string(), "1/FF000000");
        assert_eq!(segment.end(MIB16).to_string(), "2/0");
        assert_eq!(Segment { timeline: 2, number: 5 }.name(1 << 30), "000000020000000100000001");
        assert_eq!(Segment { timeline: 2, number: 4095 }.name(1 << 20), "000000020000000000000FFF");
        assert_eq!(Segment { timeline: 2, number: 0 }.previous(), None);
        assert_eq!(segment.next().previous(), Some(segment));
    }

    #[test]
    fn impossible_names_are_refused() {
        for bad in [
            "",
            "00000001000000000000000",
            "0000000100000000000000011",
            "00000001000000000000010G",
            "000000010000000000000100",
            "0000000100000000000000aa",
            "00000001000000000000000é",
        ] {
            assert_eq!(
                Segment::parse(bad, MIB16).unwrap_err().kind(),
                crate::Kind::Invalid,
                "{bad:?}"
            );
        }
        assert!(Segment::parse("000000010000000000000100", 1 << 20).is_ok());
        assert!(Segment::parse("000000010000000000000004", 1 << 30).is_err());
        // A size no cluster has must not divide by zero.
        for size in [0, u64::MAX] {
            let segment = Segment::of(1, Lsn(7), size);
            assert_eq!(Segment::parse(&segment.name(size), size).unwrap(), segment);
        }
    }

    #[test]
    fn files_are_told_apart() {
        let one = Segment { timeline: 1, number: 0x10 };
        let name = one.name(MIB16);
        let cases = [
            (name.clone(), WalFile::Segment(one)),
            (format!("{name}.partial"), WalFile::Partial(one)),
            (format!("{name}_delta"), WalFile::Delta(one)),
            (format!("{name}.00000028.backup"), WalFile::BackupHistory(one, 0x28)),
            ("0000000A.history".to_owned(), WalFile::History(10)),
            (format!("{name}.json"), WalFile::Other),
            (format!("{name}.lz4"), WalFile::Other),
            (format!("{name}.28.backup"), WalFile::Other),
            (format!("{name}.partial.partial"), WalFile::Other),
            ("000000A.history".to_owned(), WalFile::Other),
            (".history".to_owned(), WalFile::Other),
            (String::new(), WalFile::Other),
            (name[..23].to_owned(), WalFile::Other),
        ];
        for (name, kind) in cases {
            assert_eq!(WalFile::classify(&name, MIB16), kind, "{name}");
        }
        assert_eq!(history_name(10), "0000000A.history");
    }

    fn sizes() -> impl Strategy<Value = u64> {
        (20u32..=30).prop_map(|power| 1 << power)
    }

    proptest! {
        #[test]
        fn a_name_read_and_written_is_the_same(timeline: u32, lsn: u64, size in sizes()) {
            let segment = Segment::of(timeline, Lsn(lsn), size);
            let name = segment.name(size);
            prop_assert_eq!(name.len(), 24);
            prop_assert_eq!(Segment::parse(&name, size).unwrap(), segment);
            prop_assert!(segment.start(size) <= Lsn(lsn));
            prop_assert!(Lsn(lsn) < segment.end(size) || segment.end(size).0 == u64::MAX);
            prop_assert!(segment.next().name(size) > name || name.ends_with('F'));
        }

        #[test]
        fn any_name_is_classified(name in "[0-9A-Fa-f.]{0,30}(\\.partial|_delta|\\.history|\\.backup|)", size in sizes()) {
            let kind = WalFile::classify(&name, size);
            if let Some(segment) = kind.segment() {
                prop_assert!(name.starts_with(&segment.name(size)));
            }
        }

        #[test]
        fn any_text_is_classified(name in ".{0,60}") {
            if let WalFile::Segment(segment) = WalFile::classify(&name, MIB16) {
                prop_assert_eq!(segment.name(MIB16), name);
            }
        }
    }
}
