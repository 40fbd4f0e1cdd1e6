//! Compressors of Walport.
