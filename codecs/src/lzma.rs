//! The classic `.lzma` stream: 13 bytes of header (lc3 lp0 pb2, dictionary,
//! unknown size), then data with an end mark. The format has no checksum.

use std::io;

use liblzma::stream::{Action, Error as LzmaError, LzmaOptions, Status, Stream};
use walport_engine::codec::{Codec, Finish, Footprint};
use walport_engine::{Error, Kind, Result};

use crate::stream::{
    BUFFER, Careful, Decode, Decoder, Encode, Encoder, Sink, Source, Step, corrupt, out_of_memory,
};

const NAME: &str = "lzma";
/// WAL-G's dictionary, and the largest we write: 8 MiB.
const LARGEST_DICTIONARY: u32 = 8 << 20;
const SMALLEST_DICTIONARY: u32 = 64 << 10;
/// A decoder refuses a header that asks for more: a dictionary of 64 MiB.
const DECODE_LIMIT: u64 = 66 << 20;
/// The preset when none is given: near the ratio of the higher ones, at ten
/// times their speed.
pub const DEFAULT_PRESET: u32 = 1;

/// LZMA-alone with a preset and a dictionary.
#[derive(Debug)]
pub struct Lzma {
    preset: u32,
    dictionary: u32,
}

impl Lzma {
    /// With the smallest dictionary.
    pub fn for_reading() -> Self {
        Self { preset: DEFAULT_PRESET, dictionary: SMALLEST_DICTIONARY }
    }

    /// The largest dictionary of which an encoder fits into `memory` bytes.
    pub fn new(preset: u32, memory: u64) -> Result<Self> {
        let mut dictionary = LARGEST_DICTIONARY;
        while encoder_bytes(preset, dictionary) > memory {
            if dictionary == SMALLEST_DICTIONARY {
                let least = encoder_bytes(preset, dictionary);
                return Err(crate::too_little(&format!("{NAME} at level {preset}"), memory, least));
            }
            dictionary /= 2;
        }
        Ok(Self { preset, dictionary })
    }
}

/// An upper bound of what an encoder holds. From preset 4 on, matches are found
/// in binary trees, which take two links per byte of dictionary instead of one.
fn encoder_bytes(preset: u32, dictionary: u32) -> u64 {
    let dictionary = u64::from(dictionary);
    let links = if preset >= 4 { 8 } else { 4 };
    let window = dictionary + dictionary / 2 + (1 << 19);
    let hashes = 4 * ((dictionary.next_power_of_two() / 2).max(1 << 16) + (1 << 16) + (1 << 10));
    let state = 1 << 20;
    window + links * dictionary + hashes + state + BUFFER as u64
}

impl Codec for Lzma {
    fn name(&self) -> &'static str {
        NAME
    }

    fn extension(&self) -> &'static str {
        "lzma"
    }

    fn footprint(&self) -> Footprint {
        Footprint {
            encode: encoder_bytes(self.preset, self.dictionary),
            decode: u64::from(LARGEST_DICTIONARY) + (512 << 10),
        }
    }

    fn encoder<'a>(&self, to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        let start = || -> Result<Stream, LzmaError> {
            let mut options = LzmaOptions::new_preset(self.preset)?;
            options.dict_size(self.dictionary);
            options.literal_context_bits(3).literal_position_bits(0).position_bits(2);
            Stream::new_lzma_encoder(&options)
        };
        let stream = start().map_err(|error| match error {
            LzmaError::Mem => Error::from(out_of_memory(NAME)),
            other => Error::new(Kind::Internal, format!("cannot start an lzma encoder: {other}")),
        })?;
        Ok(Careful::boxed(Encoder::new(Machine { stream }, to)))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        let stream =
            Stream::new_lzma_decoder(DECODE_LIMIT).map_err(|_| Error::from(out_of_memory(NAME)))?;
        Ok(Box::new(Decoder::new(Machine { stream }, from)))
    }
}

struct Machine {
    stream: Stream,
}

impl Machine {
    fn process(&mut self, input: &[u8], output: &mut [u8], action: Action) -> io::Result<Step> {
        let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.process(input, output, action).map_err(|error| match error {
            LzmaError::Mem => out_of_memory(NAME),
            LzmaError::Format => corrupt(NAME, "the header is not of this format"),
            LzmaError::Options => corrupt(NAME, "the header's properties are not possible"),
            LzmaError::MemLimit => corrupt(NAME, "the header asks for a dictionary above 64 MiB"),
            _ => corrupt(NAME, "the data does not decode"),
        })?;
        Ok(Step {
            consumed: (self.stream.total_in() - before_in) as usize,
            produced: (self.stream.total_out() - before_out) as usize,
            ended: status == Status::StreamEnd,
        })
    }
}

impl Encode for Machine {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> io::Result<Step> {
        self.process(input, output, if finish { Action::Finish } else { Action::Run })
    }
}

impl Decode for Machine {
    const NAME: &'static str = NAME;

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        self.process(input, output, Action::Run)
    }

    fn may_end(&self) -> bool {
        false
    }
}
