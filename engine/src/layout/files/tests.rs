#![allow(clippy::unwrap_used)]
//! Tests.
