//! The stores of Walport, one folder each, and the registry that opens them.

pub mod file;
#[cfg(feature = "http")]
pub mod http;

use walport_engine::storage::Registry;

/// Every store this build has, in the order in which prefix settings are looked for.
pub fn registry() -> Registry {
    Registry::new().with(file::BACKEND)
}
