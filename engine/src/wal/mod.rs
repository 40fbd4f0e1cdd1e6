//! The archive of WAL: push, fetch, prefetch.

mod ahead;
mod archive;
mod check;
pub mod fetch;
mod marker;
mod metadata;
pub mod prefetch;
pub mod push;
