//! What a store can do and how large things may be, as data.

/// The abilities and sizes of a store. The planner and the conformance suite
/// read the same values, so a store that declares too much fails the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// [`Put::if_absent`](super::Put) is exact, also under a race.
    pub create_if_absent: bool,
    /// [`Storage::copy`](super::Storage::copy) works without moving the bytes
    /// through this process.
    pub server_side_copy: bool,
    /// [`Get::version`](super::Get) is honoured: a changed object is an error.
    pub pinned_reads: bool,
    /// Listings come in byte order of the keys.
    pub ordered_list: bool,
    /// An object whose writing was broken off is never seen, and what was
    /// stored of it is removed.
    pub atomic_put: bool,
    /// Overwriting an object shows readers the old one or the new one, whole.
    pub atomic_replace: bool,
    /// Storage classes, tags or retention of [`Put`](super::Put) are accepted.
    pub attributes: bool,
    /// The smallest part of an upload in bytes, the last excepted; 0 where
    /// objects are not uploaded in parts.
    pub min_part: u64,
    /// The largest part of an upload in bytes.
    pub max_part: u64,
    /// The most parts of one upload; 0 where there are none.
    pub max_parts: u64,
    /// The largest object in bytes.
    pub max_object: u64,
    /// The most keys one delete request carries.
    pub delete_batch: usize,
    /// The longest key in bytes.
    pub max_key: usize,
}

impl Limits {
    /// The limits of a store that can do everything and has no parts: a start
    /// for backends, which then lower what does not hold.
    pub const fn unlimited() -> Self {
        Self {
            create_if_absent: true,
            server_side_copy: true,
            pinned_reads: true,
            ordered_list: true,
            atomic_put: true,
            atomic_replace: true,
            attributes: false,
            min_part: 0,
            max_part: u64::MAX,
            max_parts: 0,
            max_object: u64::MAX,
            delete_batch: 1000,
            max_key: super::key::MAX_KEY_BYTES,
        }
    }
}
