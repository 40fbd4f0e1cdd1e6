//! The archive of WAL: push, fetch, prefetch.

pub mod fetch;
pub mod prefetch;
pub mod push;
