//! What the tests of the codecs share: encode, decode, and inputs that tell.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use walport_codecs::Options;
use walport_engine::codec::{Codec, SharedCodec};
use walport_engine::{Error, Kind};

/// A sink that the test looks into afterwards.
#[derive(Clone, Default)]
pub struct Kept(pub Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // Short writes are legal, and a codec must not lose the rest.
        let taken = data.len().min(100_003);
        self.0.lock().unwrap().extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer of `method`.
pub fn writer(method: &str, level: Option<&str>, memory: u64, threads: usize) -> SharedCodec {
    let options = Options { level: level.map(str::to_owned), memory, threads };
    walport_codecs::writer(method, &options).unwrap()
}

/// The codec that reads the extension.
pub fn reader(extension: &str) -> SharedCodec {
    walport_codecs::readable().into_iter().find(|codec| codec.extension() == extension).unwrap()
}

/// Encodes `data`, given in pieces of `piece` bytes.
pub fn encode(codec: &dyn Codec, data: &[u8], piece: usize) -> Vec<u8> {
    let kept = Kept::default();
    let mut encoder = codec.encoder(Box::new(kept.clone())).unwrap();
    for part in data.chunks(piece.max(1)) {
        encoder.write_all(part).unwrap();
    }
    encoder.finish().unwrap();
    kept.bytes()
}

/// A source that gives at most `most` bytes at a time.
pub struct Slow<'a>(pub &'a [u8], pub usize);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}

/// Decodes all of `bytes`, or says why not.
pub fn decode(codec: &dyn Codec, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    decode_in(codec, bytes, 64 << 10, 64 << 10)
}

/// As [`decode`], with a source that gives at most `piece` bytes and a buffer
/// of `room`.
pub fn decode_in(
    codec: &dyn Codec,
    bytes: &[u8],
    piece: usize,
    room: usize,
) -> Result<Vec<u8>, Error> {
    let mut reader = codec.decoder(Box::new(Slow(bytes, piece)))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(all),
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error) => {
                let again = reader.read(&mut buffer);
                assert!(again.is_err(), "a read after a failed one gave {again:?}");
                return Err(Error::from(error));
            }
        }
    }
}

/// Asserts that `bytes` are refused as damaged.
pub fn assert_corrupt(codec: &dyn Codec, bytes: &[u8], what: &str) {
    match decode(codec, bytes) {
        Ok(all) => panic!("{} {what}: decoded to {} bytes", codec.name(), all.len()),
        Err(error) => assert_eq!(error.kind(), Kind::Corrupt, "{} {what}: {error}", codec.name()),
    }
}

/// Inputs of one length: random, zeros, text, and pages like PostgreSQL's.
pub fn inputs(random: &mut fastrand::Rng, len: usize) -> Vec<(&'static str, Vec<u8>)> {
    let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    let words = ["wal", "segment", "backup", "timeline", "the", "of", " ", "\n"];
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        text.extend_from_slice(random.choice(words).unwrap().as_bytes());
    }
    text.truncate(len);
    let mut pages = vec![0; len];
    for page in pages.chunks_mut(8192) {
        let filled = random.usize(..=page.len());
        for (index, byte) in page[..filled].iter_mut().enumerate() {
            *byte = if index % 7 == 0 { random.u8(..) } else { (index / 7) as u8 };
        }
    }
    vec![("noise", noise), ("zeros", vec![0; len]), ("text", text), ("pages", pages)]
}

/// A generator whose seed is printed, so that a failure can be had again: set
/// WALPORT_TEST_SEED.
pub fn seeded(test: &str) -> fastrand::Rng {
    let seed = std::env::var("WALPORT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: WALPORT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
