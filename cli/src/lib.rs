//! Walport as a library.
