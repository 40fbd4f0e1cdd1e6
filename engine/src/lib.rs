//! The backup engine of Walport.
//!
//! Everything that is PostgreSQL or WAL-G is here, together with the two
//! contracts a plug-in implements: [`storage::Storage`] and [`codec::Codec`].
//! No cloud and no compressor is known to this crate.

pub mod backup;
pub mod codec;
pub mod context;
pub mod error;
pub mod layout;
pub mod memory;
pub mod postgres;
pub mod progress;
pub mod settings;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod wal;

pub use context::Context;
pub use error::{Class, Error, Kind, Result};
