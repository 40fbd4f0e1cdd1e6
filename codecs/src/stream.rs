//! What the codecs share: state machines behind `Write` and `Read`, and the
//! errors of damaged input.
//!
//! The machines never see the stream's other end, so an error of the sink or the
//! source comes back as it was, and an error of the machine is always ours.

use std::io::{self, Read, Write};

use walport_engine::codec::Finish;
use walport_engine::{Error, Kind};

/// The sink of an encoder.
pub type Sink<'a> = Box<dyn Write + Send + 'a>;
/// The source of a decoder.
pub type Source<'a> = Box<dyn Read + Send + 'a>;

/// The size in bytes of the buffer between a machine and the stream.
pub const BUFFER: usize = 64 << 10;

/// What one step of a machine did.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Bytes taken from the input.
    pub consumed: usize,
    /// Bytes put into the output.
    pub produced: usize,
    /// The stream is over, and all of it is in the output.
    pub ended: bool,
}

/// Input that does not decode.
pub fn corrupt(codec: &str, what: &str) -> io::Error {
    Error::new(Kind::Corrupt, format!("damaged {codec} data: {what}"))
        .with_hint(
            "The object is damaged or was cut short; take it from another copy if there is one.",
        )
        .into()
}

/// Memory that the system refused.
pub fn out_of_memory(codec: &str) -> io::Error {
    Error::new(Kind::Memory, format!("the system has no memory for the {codec} window"))
        .with_hint("Raise the memory limit of the process, or lower its concurrency.")
        .into()
}

/// A compressor's state.
pub trait Encode: Send {
    /// Takes some of `input`, fills some of `output`. With `finish` the input is
    /// the last there is, and the step is repeated until it ended.
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> io::Result<Step>;
}

/// A compressor behind `Write`.
pub struct Encoder<'a, M> {
    machine: M,
    to: Sink<'a>,
    out: Box<[u8]>,
    filled: usize,
}

impl<'a, M: Encode> Encoder<'a, M> {
    pub fn new(machine: M, to: Sink<'a>) -> Self {
        Self { machine, to, out: vec![0; BUFFER].into_boxed_slice(), filled: 0 }
    }

    fn step(&mut self, input: &[u8], finish: bool) -> io::Result<Step> {
        let step = self.machine.step(input, &mut self.out[self.filled..], finish)?;
        self.filled += step.produced;
        let moved = step.consumed > 0 || step.produced > 0 || step.ended;
        if !moved && (finish || !input.is_empty()) {
            return Err(Error::new(Kind::Internal, "a compressor makes no progress").into());
        }
        if self.filled == self.out.len() {
            self.drain()?;
        }
        Ok(step)
    }

    fn drain(&mut self) -> io::Result<()> {
        self.to.write_all(&self.out[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}

impl<M: Encode> Write for Encoder<'_, M> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            // Some encoders hold as much as they are given at once.
            let step = self.step(&rest[..rest.len().min(BUFFER)], false)?;
            rest = &rest[step.consumed..];
        }
        Ok(data.len())
    }

    /// Does nothing: the bytes written must not depend on who flushes when.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<M: Encode> Finish for Encoder<'_, M> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        while !self.step(&[], true)?.ended {}
        self.drain()?;
        self.to.flush()
    }
}

/// An encoder that stays broken: after a write that failed, nothing it says can
/// make what is stored look whole.
pub struct Careful<'a> {
    inner: Box<dyn Finish + Send + 'a>,
    broken: bool,
}

impl<'a> Careful<'a> {
    pub fn boxed(inner: impl Finish + Send + 'a) -> Box<dyn Finish + Send + 'a> {
        Box::new(Self { inner: Box::new(inner), broken: false })
    }

    fn check(&self) -> io::Result<()> {
        if self.broken {
            return Err(Error::new(Kind::Internal, "an earlier write of this stream failed").into());
        }
        Ok(())
    }
}

impl Write for Careful<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.check()?;
        let result = self.inner.write(data);
        self.broken = result.is_err();
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.inner.flush()
    }
}

impl Finish for Careful<'_> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.check()?;
        self.inner.finish()
    }
}

/// A decompressor's state.
pub trait Decode: Send {
    /// The setting's value, for messages.
    const NAME: &'static str;

    /// Takes some of `input`, fills some of `output`. Empty input asks only for
    /// what is still held back.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step>;

    /// Whether the input may end here.
    fn may_end(&self) -> bool;
}

/// A decompressor behind `Read`: the input ends where the stream does, or it is
/// damaged.
pub struct Decoder<'a, M> {
    machine: M,
    from: Source<'a>,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    exhausted: bool,
    ended: bool,
    failed: bool,
}

impl<'a, M: Decode> Decoder<'a, M> {
    pub fn new(machine: M, from: Source<'a>) -> Self {
        Self {
            machine,
            from,
            input: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            exhausted: false,
            ended: false,
            failed: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end && !self.exhausted {
            let read = read_some(&mut self.from, &mut self.input)?;
            (self.start, self.end) = (0, read);
            self.exhausted = read == 0;
        }
        Ok(())
    }

    fn decode(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.ended {
                self.fill()?;
                return if self.exhausted {
                    Ok(0)
                } else {
                    Err(corrupt(M::NAME, "bytes follow the end of the stream"))
                };
            }
            let input = &self.input[self.start..self.end];
            let step = self.machine.step(input, into)?;
            self.start += step.consumed;
            self.ended = step.ended;
            if step.produced > 0 {
                return Ok(step.produced);
            }
            if step.ended {
                continue;
            }
            if self.exhausted && step.consumed == 0 {
                return if self.machine.may_end() {
                    Ok(0)
                } else {
                    Err(corrupt(M::NAME, "the stream ends early"))
                };
            }
            if step.consumed == 0 && self.start < self.end {
                return Err(corrupt(M::NAME, "the stream cannot be continued"));
            }
            self.fill()?;
        }
    }
}

impl<M: Decode> Read for Decoder<'_, M> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(corrupt(M::NAME, "an earlier part did not decode"));
        }
        let result = self.decode(into);
        self.failed = result.is_err();
        result
    }
}

/// One read that is not interrupted by signals; 0 is the end.
pub fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads until `into` is full or the input ends; says how much there was.
pub fn read_full(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match read_some(from, &mut into[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
