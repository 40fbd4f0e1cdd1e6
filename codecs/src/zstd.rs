//! Zstandard: one frame with a checksum, its window as large as the memory
//! allows and never above 8 MiB, which every decoder reads.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use walport_engine::codec::{Codec, Finish, Footprint};
use walport_engine::{Error, Kind, Result};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name,
};

use crate::stream::{
    BUFFER, Careful, Decode, Decoder, Encode, Encoder, Sink, Source, Step, corrupt, out_of_memory,
};

const NAME: &str = "zstd";
/// The largest window we write, as a power of two: 8 MiB.
const LARGEST_WINDOW: u32 = 23;
const SMALLEST_WINDOW: u32 = 17;
/// The largest window we read: what the usual decoders accept, 128 MiB.
const READ_WINDOW: u32 = 27;
/// The level when none is given: klauspost's "default".
pub const DEFAULT_LEVEL: i32 = 3;
/// The highest level.
pub const MAX_LEVEL: i32 = 22;

/// WAL-G's names of levels, as the C library's numbers.
pub const LEVEL_NAMES: &[(&str, i32)] =
    &[("fastest", 1), ("default", 3), ("better", 7), ("best", 11)];

/// How a level looks for matches: it decides which tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finder {
    /// One hash table.
    Hash,
    /// A hash table with a byte more per entry.
    Rows,
    /// Two tables of their own sizes.
    Two,
    /// A hash table and a binary tree.
    Tree,
    /// The same, and a price of each choice.
    Optimal,
    /// The same, with matches of three bytes.
    Ultra,
}

/// The sizes of a level as powers of two: bytes of window, entries of the second
/// table, entries of the hash table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    window: u32,
    second: u32,
    hash: u32,
    finder: Finder,
}

const fn shape(window: u32, second: u32, hash: u32, finder: Finder) -> Shape {
    Shape { window, second, hash, finder }
}

/// The library's own sizes, from level 1.
const SHAPES: [Shape; MAX_LEVEL as usize] = [
    shape(19, 13, 14, Finder::Hash),
    shape(20, 15, 16, Finder::Hash),
    shape(21, 16, 17, Finder::Two),
    shape(21, 18, 18, Finder::Two),
    shape(21, 18, 19, Finder::Rows),
    shape(21, 18, 19, Finder::Rows),
    shape(21, 19, 20, Finder::Rows),
    shape(21, 19, 20, Finder::Rows),
    shape(22, 20, 21, Finder::Rows),
    shape(22, 21, 22, Finder::Rows),
    shape(22, 21, 22, Finder::Rows),
    shape(22, 22, 23, Finder::Rows),
    shape(22, 22, 22, Finder::Tree),
    shape(22, 22, 23, Finder::Tree),
    shape(22, 23, 23, Finder::Tree),
    shape(22, 22, 22, Finder::Optimal),
    shape(23, 23, 22, Finder::Optimal),
    shape(23, 23, 22, Finder::Ultra),
    shape(23, 24, 22, Finder::Ultra),
    shape(25, 25, 23, Finder::Ultra),
    shape(26, 26, 24, Finder::Ultra),
    shape(27, 27, 25, Finder::Ultra),
];

impl Shape {
    /// The level's own shape, cut to a window: tables that could hold more than
    /// the window's positions would hold stale ones.
    fn of(level: i32, window: u32) -> Self {
        let own = SHAPES[(level.clamp(1, MAX_LEVEL) - 1) as usize];
        let window = own.window.min(window);
        Self { window, second: own.second.min(window + 1), hash: own.hash.min(window + 1), ..own }
    }

    /// What an encoder of this shape holds in bytes; a test compares it with
    /// what the library says.
    fn bytes(self) -> u64 {
        let (hash, second) = (4u64 << self.hash, 4u64 << self.second);
        let blocks_and_sequences = 764 << 10;
        let tables = match self.finder {
            Finder::Hash => hash,
            Finder::Rows => hash + hash / 4,
            Finder::Two | Finder::Tree => hash + second,
            Finder::Optimal => hash + second + (146 << 10),
            Finder::Ultra => hash + second + (776 << 10),
        };
        (1 << self.window) + tables + blocks_and_sequences + BUFFER as u64
    }
}

/// Zstandard with a level and a window.
pub struct Zstd {
    level: i32,
    shape: Shape,
    // One idle context is kept: making one costs as much as compressing a small
    // object.
    idle: Arc<Mutex<Option<CCtx<'static>>>>,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd")
            .field("level", &self.level)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Zstd {
    /// With the smallest window.
    pub fn for_reading() -> Self {
        let shape = Shape::of(DEFAULT_LEVEL, SMALLEST_WINDOW);
        Self { level: DEFAULT_LEVEL, shape, idle: Arc::default() }
    }

    /// The level's own window up to 8 MiB, or the largest smaller one of which
    /// an encoder fits into `memory` bytes.
    pub fn new(level: i32, memory: u64) -> Result<Self> {
        (SMALLEST_WINDOW..=LARGEST_WINDOW)
            .rev()
            .map(|window| Shape::of(level, window))
            .find(|shape| shape.bytes() <= memory)
            .map(|shape| Self { level, shape, idle: Arc::default() })
            .ok_or_else(|| {
                let least = Shape::of(level, SMALLEST_WINDOW).bytes();
                crate::too_little(&format!("{NAME} at level {level}"), memory, least)
            })
    }

    fn context(&self) -> Result<CCtx<'static>> {
        if let Some(context) = self.idle.lock().ok().and_then(|mut idle| idle.take()) {
            return Ok(context);
        }
        let mut context = CCtx::try_create().ok_or_else(|| Error::from(out_of_memory(NAME)))?;
        let set = [
            CParameter::CompressionLevel(self.level),
            CParameter::WindowLog(self.shape.window),
            CParameter::HashLog(self.shape.hash),
            CParameter::ChainLog(self.shape.second),
            CParameter::ChecksumFlag(true),
        ];
        for parameter in set {
            context.set_parameter(parameter).map_err(|code| Error::from(failed(code)))?;
        }
        Ok(context)
    }
}

/// An error of the library that input cannot cause.
fn failed(code: usize) -> io::Error {
    let name = get_error_name(code);
    if name.starts_with("Allocation") {
        return out_of_memory(NAME);
    }
    Error::new(Kind::Internal, format!("zstd failed: {name}")).into()
}

impl Codec for Zstd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn extension(&self) -> &'static str {
        "zst"
    }

    fn footprint(&self) -> Footprint {
        // WAL-G's window, two blocks, tables, and the buffer before it.
        let decode = (1 << LARGEST_WINDOW) + (512 << 10) + BUFFER as u64;
        Footprint { encode: self.shape.bytes(), decode }
    }

    fn encoder<'a>(&self, to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        let packer = Packer { context: Some(self.context()?), idle: self.idle.clone() };
        Ok(Careful::boxed(Encoder::new(packer, to)))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        let mut context = DCtx::try_create().ok_or_else(|| Error::from(out_of_memory(NAME)))?;
        context
            .set_parameter(DParameter::WindowLogMax(READ_WINDOW))
            .map_err(|code| Error::from(failed(code)))?;
        Ok(Box::new(Decoder::new(Unpacker { context, between_frames: false }, from)))
    }
}

struct Packer {
    context: Option<CCtx<'static>>,
    idle: Arc<Mutex<Option<CCtx<'static>>>>,
}

impl Encode for Packer {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> io::Result<Step> {
        let Some(context) = &mut self.context else {
            return Err(Error::new(Kind::Internal, "the zstd encoder is closed").into());
        };
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        let directive =
            if finish { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
        let left = context.compress_stream2(&mut target, &mut source, directive).map_err(failed)?;
        Ok(Step { consumed: source.pos(), produced: target.pos(), ended: finish && left == 0 })
    }
}

/// Gives the context back, for the next encoder.
impl Drop for Packer {
    fn drop(&mut self) {
        if let Some(mut context) = self.context.take()
            && context.reset(ResetDirective::SessionOnly).is_ok()
            && let Ok(mut idle) = self.idle.lock()
        {
            *idle = Some(context);
        }
    }
}

struct Unpacker {
    context: DCtx<'static>,
    between_frames: bool,
}

impl Decode for Unpacker {
    const NAME: &'static str = NAME;

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        let left = self.context.decompress_stream(&mut target, &mut source).map_err(|code| {
            match get_error_name(code) {
                name if name.starts_with("Allocation") => out_of_memory(NAME),
                name => corrupt(NAME, &name.to_lowercase()),
            }
        })?;
        let (consumed, produced) = (source.pos(), target.pos());
        if consumed > 0 || produced > 0 {
            self.between_frames = left == 0;
        }
        Ok(Step { consumed, produced, ended: false })
    }

    fn may_end(&self) -> bool {
        self.between_frames
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn held(level: i32, shape: Shape) -> u64 {
        let codec = Zstd { level, shape, idle: Arc::default() };
        let mut packer = Packer { context: Some(codec.context().unwrap()), idle: Arc::default() };
        let mut out = vec![0; BUFFER];
        packer.step(&[1, 2, 3], &mut out, false).unwrap();
        (packer.context.as_ref().unwrap().sizeof() + BUFFER) as u64
    }

    #[test]
    fn contexts_hold_what_their_shape_says() {
        for level in 1..=MAX_LEVEL {
            for window in SMALLEST_WINDOW..=LARGEST_WINDOW {
                let shape = Shape::of(level, window);
                let (held, said) = (held(level, shape), shape.bytes());
                assert!(
                    held <= said && said <= held + held / 50,
                    "level {level}, {shape:?}: {held} held, {said} said"
                );
            }
        }
    }
}
