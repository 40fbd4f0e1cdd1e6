//! Packs blocks, here and on other threads, and hands them back in order.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use walport_engine::codec::transfer::STACK;
use walport_engine::{Error, Kind};

use super::frame::RAW;

/// The most threads one encoder uses, the caller's included.
pub const MOST_THREADS: usize = 8;
/// Blocks that wait at one thread: the one it packs and the next.
const DEPTH: usize = 2;
/// Bytes before a packed block that hold its size.
const WORD: usize = 4;

/// A block on its way: what was read, and what is to be stored.
#[derive(Debug, Default)]
pub struct Block {
    /// The content.
    pub data: Vec<u8>,
    out: Vec<u8>,
    packed: Option<usize>,
}

impl Block {
    /// Writes what is to be stored: the size, and the bytes.
    pub fn store(&self, to: &mut impl Write) -> io::Result<()> {
        self.store_content(&self.data, to)
    }

    /// As `store`, where the content is `data`, which was packed with
    /// [`Team::pack_here`].
    pub fn store_content(&self, data: &[u8], to: &mut impl Write) -> io::Result<()> {
        if let Some(len) = self.packed {
            return to.write_all(&self.out[..WORD + len]);
        }
        to.write_all(&self.out[..WORD])?;
        to.write_all(data)
    }
}

/// The bytes of a block's two buffers.
pub fn block_bytes(size: usize) -> u64 {
    (size + WORD + get_maximum_output_size(size)) as u64
}

/// Packs one block after the other, keeping its table.
#[derive(Default)]
pub struct Packer {
    table: CompressTable,
    zeros: Option<(usize, Vec<u8>)>,
}

impl Packer {
    /// Packs `data` into `out`, the size first; `None` if it is to be stored as
    /// it is.
    pub fn pack(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let most = WORD + get_maximum_output_size(data.len());
        if out.len() < most {
            *out = vec![0; most];
        }
        let len = match self.zeros_of(data, out) {
            Some(len) => len,
            None => self.pack_any(data, &mut out[WORD..])?,
        };
        let (packed, size) = if len < data.len() {
            (Some(len), len as u32)
        } else {
            (None, data.len() as u32 | RAW)
        };
        out[..WORD].copy_from_slice(&size.to_le_bytes());
        Ok(packed)
    }

    fn pack_any(&mut self, data: &[u8], out: &mut [u8]) -> io::Result<usize> {
        compress_into_with_table(data, out, &mut self.table).map_err(|error| {
            Error::new(Kind::Internal, format!("cannot pack an lz4 block: {error}")).into()
        })
    }

    /// WAL segments end in zeros: such a block is packed once and copied after.
    fn zeros_of(&mut self, data: &[u8], out: &mut [u8]) -> Option<usize> {
        if !is_zero(data) {
            return None;
        }
        if self.zeros.as_ref().is_none_or(|(size, _)| *size != data.len()) {
            let len = self.pack_any(data, &mut out[WORD..]).ok()?;
            self.zeros = Some((data.len(), out[WORD..WORD + len].to_vec()));
            return Some(len);
        }
        let (_, packed) = self.zeros.as_ref()?;
        out[WORD..WORD + packed.len()].copy_from_slice(packed);
        Some(packed.len())
    }

    fn pack_block(&mut self, block: &mut Block) -> io::Result<()> {
        block.packed = self.pack(&block.data, &mut block.out)?;
        Ok(())
    }
}

fn is_zero(data: &[u8]) -> bool {
    data.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// The threads of one encoder, the caller's among them.
pub struct Team {
    own: Packer,
    wanted: usize,
    workers: Vec<Worker>,
    order: VecDeque<Slot>,
    spare: Vec<Block>,
}

enum Slot {
    /// The next block that this worker hands back.
    At(usize),
    /// Packed here.
    Ready(Block),
}

struct Worker {
    jobs: Option<SyncSender<Block>>,
    done: Receiver<io::Result<Block>>,
    thread: Option<JoinHandle<()>>,
    waiting: usize,
}

/// The blocks that a team of `threads` holds at most: those at the other
/// threads, and one that is filled, packed or stored here.
pub fn most_blocks(threads: usize) -> usize {
    (threads - 1) * DEPTH + 1
}

impl Team {
    /// A team of `threads`; they start when there is a second block to pack.
    pub fn new(threads: usize) -> Self {
        Self {
            own: Packer::default(),
            wanted: threads.saturating_sub(1),
            workers: Vec::new(),
            order: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Whether there is no other thread.
    pub fn is_alone(&self) -> bool {
        self.wanted == 0
    }

    /// Packs `data`, which is not copied, at once and on this thread.
    pub fn pack_here(&mut self, data: &[u8], block: &mut Block) -> io::Result<()> {
        block.packed = self.own.pack(data, &mut block.out)?;
        Ok(())
    }

    /// A block to fill, its content empty.
    pub fn blank(&mut self) -> Block {
        let mut block = self.spare.pop().unwrap_or_default();
        block.data.clear();
        block
    }

    /// Takes a block to pack: gives it to the thread with the fewest, or packs
    /// it here if all are busy.
    pub fn push(&mut self, mut block: Block, last: bool) -> io::Result<()> {
        if self.workers.len() < self.wanted && !last {
            match Worker::start() {
                Ok(worker) => self.workers.push(worker),
                // The system gives no more threads: those there are will do.
                Err(_) => self.wanted = self.workers.len(),
            }
        }
        let idlest = self.workers.iter_mut().enumerate().min_by_key(|(_, worker)| worker.waiting);
        match idlest {
            Some((index, worker)) if worker.waiting < DEPTH => {
                worker.send(block)?;
                self.order.push_back(Slot::At(index));
            }
            _ => {
                self.own.pack_block(&mut block)?;
                self.order.push_back(Slot::Ready(block));
            }
        }
        Ok(())
    }

    /// The next block in order, if it is packed. Waits for it with `wait`, and
    /// when as many blocks are on their way as there may be.
    pub fn pop(&mut self, wait: bool) -> io::Result<Option<Block>> {
        let full = self.order.len() >= most_blocks(self.wanted + 1);
        match self.order.pop_front() {
            None => Ok(None),
            Some(Slot::Ready(block)) => Ok(Some(block)),
            Some(Slot::At(index)) => {
                let block = self.workers[index].receive(wait || full)?;
                if block.is_none() {
                    self.order.push_front(Slot::At(index));
                }
                Ok(block)
            }
        }
    }

    /// Keeps the buffers of a block that is stored.
    pub fn give_back(&mut self, block: Block) {
        self.spare.push(block);
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<Block>(DEPTH);
        let (results, done) = sync_channel(DEPTH);
        let work = move || {
            let mut packer = Packer::default();
            for mut block in todo {
                let result = packer.pack_block(&mut block).map(|()| block);
                if results.send(result).is_err() {
                    break;
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("lz4".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), waiting: 0 })
    }

    fn send(&mut self, block: Block) -> io::Result<()> {
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(block).map_err(|_| gone())?;
        self.waiting += 1;
        Ok(())
    }

    fn receive(&mut self, wait: bool) -> io::Result<Option<Block>> {
        let result = if wait {
            self.done.recv().map_err(|_| gone())?
        } else {
            match self.done.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(gone()),
            }
        };
        self.waiting -= 1;
        result.map(Some)
    }
}

fn gone() -> io::Error {
    Error::new(Kind::Internal, "an lz4 thread ended too early").into()
}

/// The thread ends with its channel, and is waited for.
impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
