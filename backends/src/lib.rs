//! The stores of Walport, one folder each, and the registry that opens them.

#[cfg(feature = "azure")]
pub mod azure;
pub mod file;
#[cfg(feature = "gcs")]
pub mod gcs;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "sftp")]
pub mod sftp;
mod temporary;

use walport_engine::storage::Registry;

/// Every store this build has, in the order in which prefix settings are looked for.
pub fn registry() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "s3")]
    let registry = registry.with(s3::BACKEND);
    let registry = registry.with(file::BACKEND);
    #[cfg(feature = "gcs")]
    let registry = registry.with(gcs::BACKEND);
    #[cfg(feature = "azure")]
    let registry = registry.with(azure::BACKEND);
    #[cfg(feature = "sftp")]
    let registry = registry.with(sftp::BACKEND);
    registry
}
