//! The contract between the engine and a transform of bytes: a compressor or a
//! cipher.

mod pipeline;
pub mod transfer;

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use crate::error::Result;

pub use pipeline::{Codecs, Pipeline};

/// A reversible transform of a byte stream. Runs on a blocking thread.
pub trait Codec: fmt::Debug + Send + Sync {
    /// The setting's value: `zstd`.
    fn name(&self) -> &'static str;

    /// The extension, without a dot: `zst`. Empty where the object's name does
    /// not change.
    fn extension(&self) -> &'static str;

    /// The bytes that one encoder and one decoder hold.
    fn footprint(&self) -> Footprint;

    /// A writer that transforms what it is given and passes it to `to`. An
    /// error of `to` comes back unchanged.
    fn encoder<'a>(&self, to: Box<dyn Write + Send + 'a>) -> Result<Box<dyn Finish + Send + 'a>>;

    /// A reader of the original bytes. Input that is damaged or ends early is an
    /// `io::Error` that holds an [`Error`](crate::Error) of kind
    /// [`Corrupt`](crate::Kind::Corrupt), never a short read. What follows the
    /// stream's own end is refused, too.
    fn decoder<'a>(&self, from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>>;
}

/// A writer with an end: nothing is complete before `finish` returned Ok.
pub trait Finish: Write {
    /// Writes what is still held back, then the end mark, and flushes.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}

/// The memory of a codec in bytes, its buffers and windows included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// One encoder.
    pub encode: u64,
    /// One decoder, of an object that WAL-G wrote (the largest usual window).
    pub decode: u64,
}

/// A codec, shared.
pub type SharedCodec = Arc<dyn Codec>;
