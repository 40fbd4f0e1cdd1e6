//! Ways to spoil the bytes of an object.

/// Cuts `bytes` to a random shorter length, possibly to nothing.
pub fn truncate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let length = rng.usize(0..bytes.len());
    bytes.truncate(length);
}

/// Turns one random bit.
pub fn flip(rng: &mut fastrand::Rng, bytes: &mut [u8]) {
    let at = rng.usize(0..bytes.len());
    bytes[at] ^= 1 << rng.u8(0..8);
}
