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
#[cfg(test)]
mod tests;
mod unpack;
mod verify;
mod walk;
