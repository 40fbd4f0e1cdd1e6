//! Compressors of Walport behind [`Codec`]: lz4, zstd, brotli, lzma and none are
//! read and written, gzip is read.
//!
//! What is written is framed as WAL-G frames it; block size and window follow
//! from the memory an encoder may hold, since every standard decoder reads them.
//!
//! [`Codec`]: walport_engine::codec::Codec

mod brotli;
mod gzip;
mod lz4;
mod lzma;
mod none;
mod settings;
mod stream;
mod zstd;

use std::sync::Arc;

use walport_engine::codec::SharedCodec;
use walport_engine::{Error, Kind, Result};

pub use settings::{SETTINGS, from_settings};

/// The methods that can write, WAL-G's default first.
pub const METHODS: &[&str] = &["lz4", "zstd", "brotli", "lzma", "none"];

/// How to write.
#[derive(Debug, Clone)]
pub struct Options {
    /// The level: a name or number of zstd, the quality of brotli (0 to 9), the
    /// preset of lzma (0 to 9). `None` is the codec's default.
    pub level: Option<String>,
    /// The bytes that one encoder may hold.
    pub memory: u64,
    /// The threads that one encoder may use, the caller's included.
    pub threads: usize,
}

impl Default for Options {
    /// The default level, 4 MiB and one thread.
    fn default() -> Self {
        Self { level: None, memory: 4 << 20, threads: 1 }
    }
}

/// A codec for each extension that can be read. They are for reading: what they
/// would write is of the default level, with the smallest window or block.
pub fn readable() -> Vec<SharedCodec> {
    vec![
        Arc::new(lz4::Lz4::for_reading()),
        Arc::new(lzma::Lzma::for_reading()),
        Arc::new(gzip::Gzip),
        Arc::new(none::Plain),
        Arc::new(brotli::Brotli::for_reading()),
        Arc::new(zstd::Zstd::for_reading()),
    ]
}

/// The codec that writes by `method` (in any case) as `options` say.
///
/// Fails with [`Kind::Config`] if there is no such method or level, and with
/// [`Kind::Memory`] if no encoder fits into the memory; the message says what
/// would.
pub fn writer(method: &str, options: &Options) -> Result<SharedCodec> {
    let method = method.trim().to_lowercase();
    let level = options.level.as_deref().map(str::trim);
    let memory = options.memory;
    Ok(match method.as_str() {
        "lz4" | "none" if level.is_some() => return Err(no_level(&method)),
        "lz4" => Arc::new(lz4::Lz4::new(memory, options.threads)?),
        "none" => Arc::new(none::Plain),
        "zstd" => Arc::new(zstd::Zstd::new(zstd_level(level)?, memory)?),
        "brotli" => Arc::new(brotli::Brotli::new(
            number(&method, level, brotli::DEFAULT_QUALITY, 0..=brotli::MAX_QUALITY)?,
            memory,
        )?),
        "lzma" => {
            Arc::new(lzma::Lzma::new(number(&method, level, lzma::DEFAULT_PRESET, 0..=9)?, memory)?)
        }
        _ => {
            return Err(Error::new(
                Kind::Config,
                format!("{method:?} is not a compression method"),
            )
            .with_hint(format!("Use one of {}.", METHODS.join(", "))));
        }
    })
}

fn no_level(method: &str) -> Error {
    Error::new(Kind::Config, format!("a compression level is set, but {method} has none"))
        .with_hint("Unset the level, or choose zstd, brotli or lzma.")
}

fn zstd_level(level: Option<&str>) -> Result<i32> {
    let Some(level) = level else { return Ok(zstd::DEFAULT_LEVEL) };
    let named = zstd::LEVEL_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(level));
    let numbered = || level.parse().ok().filter(|number| (1..=zstd::MAX_LEVEL).contains(number));
    named.map(|(_, number)| *number).or_else(numbered).ok_or_else(|| {
        Error::new(Kind::Config, format!("{level:?} is not a level of zstd"))
            .with_hint("Use fastest, default, better, best, or a number from 1 to 22.")
    })
}

fn number(
    method: &str,
    level: Option<&str>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32> {
    let Some(level) = level else { return Ok(default) };
    level.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        Error::new(Kind::Config, format!("{level:?} is not a level of {method}"))
            .with_hint(format!("Use a number from {} to {}.", range.start(), range.end()))
    })
}

/// The error when no encoder of that codec (and level) fits.
fn too_little(what: &str, memory: u64, least: u64) -> Error {
    Error::new(
        Kind::Memory,
        format!("an encoder of {what} holds at least {least} bytes, but may use {memory}"),
    )
    .with_hint("Raise WALPORT_MEMORY_LIMIT, lower the concurrency, or choose a lower level.")
}
