//! The rows that belong to the codecs, and the codecs that a configuration asks
//! for.

use walport_engine::codec::Codecs;
use walport_engine::settings::{Setting, Settings};
use walport_engine::{Error, Kind, Result};

use crate::{Options, readable, writer};

const METHOD: &str = "WALG_COMPRESSION_METHOD";
const ZSTD_LEVEL: &str = "WALG_ZSTD_LEVEL";
const LEVEL: &str = "WALPORT_COMPRESSION_LEVEL";

/// The settings of the codecs.
pub const SETTINGS: &[Setting] = &[
    Setting::new(
        ZSTD_LEVEL,
        "Compression",
        "Level of zstd: fastest, default, better, best, or a number from 1 to 22. Only with WALG_COMPRESSION_METHOD=zstd.",
    ),
    Setting::new(
        LEVEL,
        "Compression",
        "Level of the codec that writes: zstd as WALG_ZSTD_LEVEL, brotli 0 to 9 (3), lzma 0 to 9 (1). lz4 and none have no level.",
    ),
];

/// The codecs that `settings` asks for: all that can be read, and the one that
/// writes, of which an encoder holds at most `memory` bytes and uses at most
/// `threads` threads. No cipher.
///
/// Fails with [`Kind::Config`] if a level is not one, or is given for a codec
/// that has none, and with [`Kind::Memory`] if `memory` is too small.
pub fn from_settings(settings: &Settings, memory: u64, threads: usize) -> Result<Codecs> {
    let method = settings.text(METHOD).unwrap_or("lz4");
    let level = settings.text(LEVEL);
    let zstd_level = settings.text(ZSTD_LEVEL);
    if zstd_level.is_some() && !method.eq_ignore_ascii_case("zstd") {
        return Err(Error::new(
            Kind::Config,
            format!("{ZSTD_LEVEL} is set, but {METHOD} is {method}"),
        )
        .with_hint(format!("Set {METHOD} to zstd, or unset {ZSTD_LEVEL}.")));
    }
    if let (Some(zstd_level), Some(level)) = (zstd_level, level)
        && !zstd_level.eq_ignore_ascii_case(level)
    {
        return Err(Error::new(
            Kind::Config,
            format!("{ZSTD_LEVEL} is {zstd_level}, but {LEVEL} is {level}"),
        )
        .with_hint("Set only one of them."));
    }
    let level = zstd_level.or(level).map(str::to_owned);
    let writer = writer(method, &Options { level, memory, threads })?;
    Ok(Codecs::new(readable(), writer, None))
}
