//! Base backups: push, fetch, list.

pub mod fetch;
pub mod list;
pub mod push;
