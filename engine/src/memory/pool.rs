//! A pool of chunks of one size, reused.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Budget, Reservation};
use crate::error::{Error, Kind, Result};

/// A fixed number of buffers of one size. Cloning shares the pool.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    size: usize,
    count: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Vec<u8>>>,
    _reservation: Reservation,
}

impl Pool {
    /// Takes `count` buffers of `size` bytes out of `budget`. They are allocated
    /// when they are first used.
    pub fn new(budget: &Budget, size: usize, count: usize, what: &str) -> Result<Self> {
        let reservation = budget.reserve(size as u64 * count as u64, what)?;
        Ok(Self(Arc::new(Inner {
            size,
            count,
            permits: Arc::new(Semaphore::new(count)),
            idle: Mutex::new(Vec::with_capacity(count)),
            _reservation: reservation,
        })))
    }

    /// The bytes of one buffer.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.count
    }

    /// An empty buffer, as soon as one is free.
    pub async fn take(&self) -> Result<Chunk> {
        let permit = Arc::clone(&self.0.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(Kind::Internal, "the buffer pool was closed"))?;
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let data = idle.unwrap_or_else(|| Vec::with_capacity(self.0.size));
        Ok(Chunk { data, pool: Arc::clone(&self.0), _permit: permit })
    }

    /// The same on a blocking thread.
    pub fn take_blocking(&self) -> Result<Chunk> {
        futures_executor::block_on(self.take())
    }
}

/// A buffer out of a [`Pool`]; goes back when it is dropped.
#[derive(Debug)]
pub struct Chunk {
    data: Vec<u8>,
    pool: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Chunk {
    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = self.pool.size - self.data.len();
        let taken = room.min(bytes.len());
        self.data.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.data.len() == self.pool.size
    }

    /// The bytes, to change in place. The length must stay within the size.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// The bytes as `Bytes`, without a copy: the buffer goes back to its pool
    /// when the last of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        // The lock is released before the permit, so whoever is woken by the
        // permit finds the buffer.
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(data);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn chunks_are_reused_and_bounded() {
        let budget = Budget::new(64);
        let pool = Pool::new(&budget, 16, 2, "a test").unwrap();
        assert_eq!(budget.free(), 32);
        let mut one = pool.take_blocking().unwrap();
        assert_eq!(one.fill(&[7; 20]), 16);
        assert!(one.is_full());
        let address = one.as_ptr();
        let bytes = one.freeze();
        let two = pool.take_blocking().unwrap();
        let waiting = {
            let pool = pool.clone();
            std::thread::spawn(move || pool.take_blocking().map(|chunk| chunk.as_ptr() as usize))
        };
        drop(bytes);
        assert_eq!(waiting.join().unwrap().unwrap(), address as usize);
        drop((two, pool));
        assert_eq!(budget.free(), 64);
    }
}
