//! The reading side: frames one after the other, each block checked.

use std::hash::Hasher;
use std::io::{self, Read};

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::NAME;
use super::frame::{BlockSize, Header, Stored, hasher, room};
use crate::stream::{BUFFER, Source, corrupt};

/// How far back a block that is not independent may reach.
const HISTORY: usize = 64 << 10;

/// What a decoder holds in bytes when the blocks are of this size.
pub fn bytes(block: BlockSize) -> u64 {
    (2 * block.bytes() + 2 * HISTORY + BUFFER) as u64
}

/// Frames being read.
pub struct Decoder<'a> {
    from: io::BufReader<Source<'a>>,
    frame: Option<Frame>,
    seen: bool,
    ended: bool,
    failed: bool,
    packed: Vec<u8>,
    content: Vec<u8>,
    start: usize,
    end: usize,
}

struct Frame {
    header: Header,
    hash: XxHash32,
    size: u64,
    history: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub fn new(from: Source<'a>) -> Self {
        Self {
            from: io::BufReader::with_capacity(BUFFER, from),
            frame: None,
            seen: false,
            ended: false,
            failed: false,
            packed: Vec::new(),
            content: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// Decodes up to the next content: into `into` if a block surely fits, and
    /// says how much it is; otherwise into `content`, from `start` to `end`.
    fn advance(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.start == self.end && !self.ended {
            let Some(frame) = &mut self.frame else {
                match Header::read(&mut self.from, &mut self.seen)? {
                    Some(header) => self.frame = Some(Frame::new(header)),
                    None if self.seen => self.ended = true,
                    None => return Err(corrupt(NAME, "the stream ends early")),
                }
                continue;
            };
            let most = frame.header.block.bytes();
            let direct = into.len() >= most;
            let target = if direct {
                &mut into[..most]
            } else {
                room(&mut self.content, most, frame.header.block);
                &mut self.content[..most]
            };
            match frame.block(&mut self.from, &mut self.packed, target)? {
                Some(len) if direct && len > 0 => return Ok(len),
                Some(len) if direct => debug_assert_eq!(len, 0),
                Some(len) => (self.start, self.end) = (0, len),
                None => {
                    frame.header.end(&mut self.from, &frame.hash, frame.size)?;
                    self.frame = None;
                    self.seen = true;
                }
            }
        }
        Ok(0)
    }
}

impl Frame {
    fn new(header: Header) -> Self {
        Self { header, hash: hasher(), size: 0, history: Vec::new() }
    }

    /// Decodes the next block to the front of `content`, which holds the
    /// largest, and says how long it is; `None` at the end mark.
    fn block(
        &mut self,
        from: &mut impl Read,
        packed: &mut Vec<u8>,
        content: &mut [u8],
    ) -> io::Result<Option<usize>> {
        let len = match self.header.block(from, packed, content)? {
            None => return Ok(None),
            Some(Stored::Raw(len)) => len,
            Some(Stored::Packed(len)) => {
                let packed = &packed[..len];
                if self.history.is_empty() {
                    decompress_into(packed, content)
                } else {
                    decompress_into_with_dict(packed, content, &self.history)
                }
                .map_err(|error| corrupt(NAME, &error.to_string()))?
            }
        };
        let bytes = &content[..len];
        if self.header.content_checksum {
            self.hash.write(bytes);
        }
        self.size += len as u64;
        if !self.header.independent {
            self.remember(bytes);
        }
        Ok(Some(len))
    }

    fn remember(&mut self, content: &[u8]) {
        let bytes = &content[content.len().saturating_sub(HISTORY)..];
        let keep = HISTORY - bytes.len();
        let forget = self.history.len().saturating_sub(keep);
        self.history.drain(..forget);
        self.history.extend_from_slice(bytes);
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(corrupt(NAME, "an earlier part did not decode"));
        }
        match self.advance(into) {
            Ok(0) => {
                let taken = into.len().min(self.end - self.start);
                into[..taken].copy_from_slice(&self.content[self.start..self.start + taken]);
                self.start += taken;
                Ok(taken)
            }
            other => {
                self.failed = other.is_err();
                other
            }
        }
    }
}
