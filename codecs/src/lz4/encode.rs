//! The writing side: fills blocks, hashes the content in order, stores the
//! packed blocks in order.

use std::hash::Hasher;
use std::io::{self, Write};

use twox_hash::XxHash32;
use walport_engine::codec::Finish;
use walport_engine::codec::transfer::STACK;

use super::frame::{BlockSize, END_MARK, hasher, header};
use super::team::{Block, Team, block_bytes, most_blocks};
use crate::stream::Sink;

/// A block is as large as this until it must be larger: most objects of an
/// archive beside its segments are a few hundred bytes.
const SMALL: usize = 4096;

/// A frame being written.
pub struct Encoder<'a> {
    to: Sink<'a>,
    size: BlockSize,
    hash: XxHash32,
    started: bool,
    block: Block,
    team: Team,
}

/// What an encoder holds in bytes: the buffers of its blocks, and the table and
/// stack of each thread.
pub fn bytes(block: BlockSize, threads: usize) -> u64 {
    let tables = (threads * (32 << 10)) as u64;
    let stacks = ((threads - 1) * STACK) as u64;
    most_blocks(threads) as u64 * block_bytes(block.bytes()) + tables + stacks
}

impl<'a> Encoder<'a> {
    pub fn new(size: BlockSize, threads: usize, to: Sink<'a>) -> Self {
        let team = Team::new(threads);
        Self { to, size, hash: hasher(), started: false, block: Block::default(), team }
    }

    fn start(&mut self) -> io::Result<()> {
        if !self.started {
            self.to.write_all(&header(self.size))?;
            self.started = true;
        }
        Ok(())
    }

    /// Hands the filled block over, and stores what is packed by now.
    fn turn(&mut self, last: bool) -> io::Result<()> {
        self.start()?;
        self.hash.write(&self.block.data);
        self.team.push(std::mem::take(&mut self.block), last)?;
        self.store(last)?;
        self.block = self.team.blank();
        Ok(())
    }

    /// Packs a whole block where it is. Only when nothing else is on its way.
    fn direct(&mut self, data: &[u8]) -> io::Result<()> {
        self.start()?;
        self.hash.write(data);
        self.team.pack_here(data, &mut self.block)?;
        self.block.store_content(data, &mut self.to)
    }

    fn store(&mut self, wait: bool) -> io::Result<()> {
        while let Some(block) = self.team.pop(wait)? {
            block.store(&mut self.to)?;
            self.team.give_back(block);
        }
        Ok(())
    }
}

impl Write for Encoder<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            let full = self.size.bytes();
            // A full block waits for the next byte: the last one is packed here.
            if self.block.data.len() == full {
                self.turn(false)?;
            }
            if self.team.is_alone() && self.block.data.is_empty() && rest.len() >= full {
                let (whole, left) = rest.split_at(full);
                self.direct(whole)?;
                rest = left;
                continue;
            }
            let block = &mut self.block.data;
            let (taken, left) = rest.split_at(rest.len().min(full - block.len()));
            let len = block.len() + taken.len();
            if len > block.capacity() {
                let room = if len <= SMALL { SMALL } else { full };
                block.reserve_exact(room - block.len());
            }
            block.extend_from_slice(taken);
            rest = left;
        }
        Ok(data.len())
    }

    /// Does nothing: the bytes written must not depend on who flushes when.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Finish for Encoder<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.start()?;
        if self.block.data.is_empty() {
            self.store(true)?;
        } else {
            self.turn(true)?;
        }
        let mut end = [0; 8];
        end[..4].copy_from_slice(&END_MARK.to_le_bytes());
        end[4..].copy_from_slice(&(self.hash.finish() as u32).to_le_bytes());
        self.to.write_all(&end)?;
        self.to.flush()
    }
}
