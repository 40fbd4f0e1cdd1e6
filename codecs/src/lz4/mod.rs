//! LZ4 frames as WAL-G writes them: independent blocks, a checksum of the
//! content, none of the blocks, no size.
//!
//! The frame is ours, around the block functions of `lz4_flex`: blocks can be
//! packed in parallel, buffers are few and reused, and the decoder checks more.

mod decode;
mod encode;
mod frame;
mod team;

use walport_engine::Result;
use walport_engine::codec::{Codec, Finish, Footprint};

use crate::stream::{Careful, Sink, Source};
use frame::BlockSize;

const NAME: &str = "lz4";

/// LZ4 with a block size and a number of threads.
#[derive(Debug)]
pub struct Lz4 {
    block: BlockSize,
    threads: usize,
}

impl Lz4 {
    /// With the smallest blocks.
    pub fn for_reading() -> Self {
        Self { block: BlockSize::KiB64, threads: 1 }
    }

    /// The largest block, up to 4 MiB, of which an encoder on `threads` threads
    /// fits three times into `memory` bytes: larger ones gain one or two
    /// hundredths of the size, and lose speed to the processor's cache. With the
    /// smallest block it need only fit, if need be with fewer threads.
    pub fn new(memory: u64, threads: usize) -> Result<Self> {
        let threads = threads.clamp(1, team::MOST_THREADS);
        for threads in (1..=threads).rev() {
            let fits =
                |times: u64, block| encode::bytes(block, threads).saturating_mul(times) <= memory;
            let [smallest, larger @ ..] = BlockSize::ALL;
            let ample = larger.into_iter().rev().find(|block| fits(3, *block));
            if let Some(block) = ample.or(Some(smallest).filter(|block| fits(1, *block))) {
                return Ok(Self { block, threads });
            }
        }
        Err(crate::too_little(NAME, memory, encode::bytes(BlockSize::ALL[0], 1)))
    }
}

impl Codec for Lz4 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn extension(&self) -> &'static str {
        "lz4"
    }

    fn footprint(&self) -> Footprint {
        Footprint {
            encode: encode::bytes(self.block, self.threads),
            decode: decode::bytes(BlockSize::MiB4),
        }
    }

    fn encoder<'a>(&self, to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        Ok(Careful::boxed(encode::Encoder::new(self.block, self.threads, to)))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        Ok(Box::new(decode::Decoder::new(from)))
    }
}
