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

    /// Decodes up to the next content; none is the end.
    fn advance(&mut self) -> io::Result<()> {
        while self.start == self.end && !self.ended {
            match &mut self.frame {
                None => match Header::read(&mut self.from, &mut self.seen)? {
                    Some(header) => self.frame = Some(Frame::new(header)),
                    None if self.seen => self.ended = true,
                    None => return Err(corrupt(NAME, "the stream ends early")),
                },
                Some(frame) => {
                    let block =
                        frame.header.block(&mut self.from, &mut self.packed, &mut self.content)?;
                    if let Some(stored) = block {
                        self.end = frame.unpack(stored, &self.packed, &mut self.content)?;
                        self.start = 0;
                    } else {
                        frame.header.end(&mut self.from, &frame.hash, frame.size)?;
                        self.frame = None;
                        self.seen = true;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Frame {
    fn new(header: Header) -> Self {
        Self { header, hash: hasher(), size: 0, history: Vec::new() }
    }

    /// Makes the block's content stand in `content`, and says how long it is.
    fn unpack(
        &mut self,
        stored: Stored,
        packed: &[u8],
        content: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let len = match stored {
            Stored::Raw(len) => len,
            Stored::Packed(len) => {
                let most = self.header.block.bytes();
                room(content, most, self.header.block);
                let (packed, into) = (&packed[..len], &mut content[..most]);
                if self.history.is_empty() {
                    decompress_into(packed, into)
                } else {
                    decompress_into_with_dict(packed, into, &self.history)
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
        Ok(len)
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
        if let Err(error) = self.advance() {
            self.failed = true;
            return Err(error);
        }
        let taken = into.len().min(self.end - self.start);
        into[..taken].copy_from_slice(&self.content[self.start..self.start + taken]);
        self.start += taken;
        Ok(taken)
    }
}
