//! The rows that belong to the engine itself: archive, backup, PostgreSQL, memory.

use super::table::{Setting, Type};

const CODECS: &[&str] = &["lz4", "lzma", "zstd", "brotli", "none"];

/// The engine's own settings.
pub const SETTINGS: &[Setting] = &[
    Setting::new("WALG_COMPRESSION_METHOD", "Compression", "Codec of everything that is written.")
        .kind(Type::Choice(CODECS)).default("lz4"),
    Setting::new("WALPORT_MEMORY_LIMIT", "Memory", "The most memory this process may use, resident and virtual, in bytes. Concurrency, part size and codec window follow from it.")
        .kind(Type::Size).default("96MiB"),
];
