//! Tar archives as WAL-G writes them: Go's choice of format for each entry.

mod header;
mod reader;
mod writer;

pub use header::{Header, Kind};
pub use reader::TarReader;
pub use writer::TarWriter;

/// The unit of a tar archive, in bytes.
pub const BLOCK: usize = 512;

/// How many zero bytes follow a payload of `size` bytes.
pub const fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

#[cfg(test)]
mod tests;
