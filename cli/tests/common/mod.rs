//! What the integration tests share: scratch folders, the programs under test,
//! real PostgreSQL clusters, and digests of whole trees.
//!
//! The tests run as root and as an ordinary user. PostgreSQL refuses to run as
//! root, so as root everything that belongs to a cluster runs as an
//! unprivileged user ([`user::worker`]).

#![allow(dead_code, unused_imports)] // each test binary uses its part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod archive;
pub mod cluster;
pub mod damage;
pub mod disk;
pub mod measure;
pub mod pages;
pub mod postgres;
pub mod scratch;
pub mod site;
pub mod tool;
pub mod tree;
pub mod user;

pub use archive::Archive;
pub use cluster::{Cluster, Recovery};
pub use postgres::{Installation, installations};
pub use scratch::Scratch;
pub use site::Site;
pub use tool::{Run, Tool};

use std::time::{Duration, Instant};

/// A random generator whose seed is printed, and taken from `WALPORT_TEST_SEED`
/// to repeat a failure.
pub fn random(test: &str) -> fastrand::Rng {
    let seed = match std::env::var("WALPORT_TEST_SEED") {
        Ok(text) => text.parse().expect("WALPORT_TEST_SEED must be a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("{test}: WALPORT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Waits until `ready` says so; fails loudly after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A segment as PostgreSQL 17 begins it: the long header of its first page, then
/// [`bytes_like_a_table`].
pub fn segment(rng: &mut fastrand::Rng, size: usize) -> Vec<u8> {
    let mut bytes = bytes_like_a_table(rng, size);
    bytes[..40].fill(0);
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&u64::try_from(size).expect("size").to_le_bytes());
    bytes[32..36].copy_from_slice(&u32::try_from(size).expect("size").to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

/// Bytes that compress about as well as a page of a table: runs, text, noise.
pub fn bytes_like_a_table(rng: &mut fastrand::Rng, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 512);
    while bytes.len() < size {
        match rng.u8(0..3) {
            0 => bytes.extend(std::iter::repeat_n(rng.u8(..), rng.usize(1..400))),
            1 => bytes.extend(format!("account {} balance {}\0", rng.u16(..), rng.u32(..)).bytes()),
            _ => {
                let count = rng.usize(1..64);
                bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(count));
            }
        }
    }
    bytes.truncate(size);
    bytes
}
