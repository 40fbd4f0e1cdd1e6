//! Base backups: push, fetch, list.

mod catalog;
mod compose;
mod databases;
pub mod fetch;
pub mod list;
mod owners;
mod pace;
mod pack;
pub mod push;
mod spill;
mod unpack;
mod verify;
mod walk;
