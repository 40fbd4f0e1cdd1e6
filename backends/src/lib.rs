//! The stores of Walport.

#[cfg(feature = "http")]
pub mod http;
