//! PostgreSQL: the connection and the backup session, the control file, data
//! pages and the pages of WAL segments.
//!
//! Versions 13 to 18 are known. Everything that only looks at bytes
//! ([`control`], [`page`], [`wal_page`]) does no input or output.

mod client;
mod connect;
pub mod control;
mod crc32c;
mod error;
pub mod page;
mod params;
mod passfile;
mod relations;
mod service;
mod session;
pub mod settings;
pub mod tls;
pub mod wal_page;

pub use client::{ArchiveMode, Client, ServerInfo};
pub use connect::connect;
pub use control::ControlFile;
pub use crc32c::crc32c;
pub use params::{Address, ChannelBindingMode, Host, Params, Secret, SslMode, Target};
pub use relations::{Database, Relation, RelationUpdates};
pub use session::{BackupStart, BackupStop};
pub use settings::SETTINGS;

/// The oldest version that is supported, as `server_version_num`.
pub const MIN_VERSION: u32 = 130_000;
