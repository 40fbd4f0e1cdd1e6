//! The raw brotli stream of RFC 7932. The format has no checksum.

use std::fmt;
use std::io;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct,
};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use walport_engine::codec::{Codec, Finish, Footprint};
use walport_engine::{Error, Kind, Result};

use crate::stream::{Careful, Decode, Decoder, Encode, Encoder, Sink, Source, Step, corrupt};

const NAME: &str = "brotli";
/// WAL-G's quality.
pub const DEFAULT_QUALITY: u32 = 3;
/// The highest quality: those above search for minutes and hold what they
/// search.
pub const MAX_QUALITY: u32 = 9;
const LARGEST_WINDOW: u32 = 22;
// Below it, the higher qualities take more memory instead of less.
const SMALLEST_WINDOW: u32 = 17;

/// Brotli with a quality and a window.
#[derive(Debug)]
pub struct Brotli {
    quality: u32,
    window: u32,
}

impl Brotli {
    /// With the smallest window.
    pub fn for_reading() -> Self {
        Self { quality: DEFAULT_QUALITY, window: SMALLEST_WINDOW }
    }

    /// The largest window, up to 4 MiB, of which an encoder fits into `memory`
    /// bytes.
    pub fn new(quality: u32, memory: u64) -> Result<Self> {
        (SMALLEST_WINDOW..=LARGEST_WINDOW)
            .rev()
            .find(|&window| encoder_bytes(quality, window) <= memory)
            .map(|window| Self { quality, window })
            .ok_or_else(|| {
                let least = encoder_bytes(quality, SMALLEST_WINDOW);
                crate::too_little(&format!("{NAME} at level {quality}"), memory, least)
            })
    }
}

/// What an encoder holds in KiB, by quality (0 to 9) and window (2^17 to 2^22):
/// measured on 12 MiB of noise and of pages, the larger of the two.
const HELD_KIB: [[u32; 6]; 10] = [
    [396, 396, 396, 396, 396, 396],
    [844, 844, 844, 844, 844, 844],
    [1416, 2144, 3680, 6752, 12896, 25184],
    [1416, 2144, 3680, 6752, 12896, 25184],
    [2276, 3200, 5332, 9804, 20368, 37712],
    [2944, 3748, 5920, 10644, 20900, 38232],
    [3968, 4768, 6924, 11668, 21920, 39256],
    [10144, 10944, 13100, 17544, 28096, 45428],
    [18336, 19136, 21488, 25732, 36284, 53616],
    [35500, 38108, 39888, 43444, 50912, 69548],
];

/// What an encoder holds in bytes: a sixteenth above the measured, since other
/// data may take a little more.
fn encoder_bytes(quality: u32, window: u32) -> u64 {
    let row = &HELD_KIB[quality.min(MAX_QUALITY) as usize];
    let held = row[(window.clamp(SMALLEST_WINDOW, LARGEST_WINDOW) - SMALLEST_WINDOW) as usize];
    u64::from(held + held / 16) << 10
}

impl Codec for Brotli {
    fn name(&self) -> &'static str {
        NAME
    }

    fn extension(&self) -> &'static str {
        "br"
    }

    fn footprint(&self) -> Footprint {
        Footprint { encode: encoder_bytes(self.quality, self.window), decode: 7 << 20 }
    }

    fn encoder<'a>(&self, to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        let set = [
            (BrotliEncoderParameter::BROTLI_PARAM_QUALITY, self.quality),
            (BrotliEncoderParameter::BROTLI_PARAM_LGWIN, self.window),
        ];
        for (parameter, value) in set {
            if !state.set_parameter(parameter, value) {
                return Err(Error::new(Kind::Internal, "brotli refuses its parameters"));
            }
        }
        Ok(Careful::boxed(Encoder::new(Packer { state }, to)))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        let alloc = StandardAlloc::default;
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Ok(Box::new(Decoder::new(Unpacker { state, total: 0 }, from)))
    }
}

struct Packer {
    state: BrotliEncoderStateStruct<StandardAlloc>,
}

impl Encode for Packer {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> io::Result<Step> {
        let operation = if finish {
            BrotliEncoderOperation::BROTLI_OPERATION_FINISH
        } else {
            BrotliEncoderOperation::BROTLI_OPERATION_PROCESS
        };
        let (mut left, mut consumed) = (input.len(), 0);
        let (mut room, mut produced) = (output.len(), 0);
        let done = self.state.compress_stream(
            operation,
            &mut left,
            input,
            &mut consumed,
            &mut room,
            output,
            &mut produced,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !done {
            return Err(Error::new(Kind::Internal, "the brotli encoder failed").into());
        }
        Ok(Step { consumed, produced, ended: finish && self.state.is_finished() })
    }
}

struct Unpacker {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    total: usize,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Decode for Unpacker {
    const NAME: &'static str = NAME;

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        let (mut left, mut consumed) = (input.len(), 0);
        let (mut room, mut produced) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut consumed,
            input,
            &mut room,
            &mut produced,
            output,
            &mut self.total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => Err(corrupt(NAME, "the data does not decode")),
            other => {
                Ok(Step { consumed, produced, ended: matches!(other, BrotliResult::ResultSuccess) })
            }
        }
    }

    fn may_end(&self) -> bool {
        false
    }
}
