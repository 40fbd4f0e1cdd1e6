//! The order of the transforms: compress, then encrypt.

use std::io::{self, Read, Write};

use super::{Finish, Footprint, SharedCodec};
use crate::error::{Error, Kind, Result};

/// The extensions that WAL-G tries, in its order, when it does not know how an
/// object was compressed. A dangling dot is what old releases wrote for `none`.
pub const PROBE_ORDER: &[&str] = &["lz4", "lzma", "gz", "", "br", "lzo", "zst"];

/// Every codec this program can read, and the one it writes with.
#[derive(Debug, Clone)]
pub struct Codecs {
    readable: Vec<SharedCodec>,
    writer: SharedCodec,
    cipher: Option<SharedCodec>,
}

impl Codecs {
    /// `readable` is what objects may be decoded with; `writer` compresses what
    /// is written; `cipher` encrypts it, and decrypts what is read.
    pub fn new(
        readable: Vec<SharedCodec>,
        writer: SharedCodec,
        cipher: Option<SharedCodec>,
    ) -> Self {
        Self { readable, writer, cipher }
    }

    /// The transforms of what is written.
    pub fn writer(&self) -> Pipeline {
        Pipeline { compressor: self.writer.clone(), cipher: self.cipher.clone() }
    }

    /// The transforms of an object whose name ends in `extension` (without a
    /// dot; empty or `tar` is no compression).
    pub fn reader(&self, extension: &str) -> Result<Pipeline> {
        let wanted = if extension == "tar" { "" } else { extension };
        let compressor =
            self.readable.iter().find(|codec| codec.extension() == wanted).ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("no codec reads the extension {extension:?}"))
            })?;
        Ok(Pipeline { compressor: compressor.clone(), cipher: self.cipher.clone() })
    }

    /// The extensions to try for an object of unknown compression, the likeliest
    /// first: `hint`, then the one we write, then WAL-G's order, of those this
    /// program can read.
    pub fn probe(&self, hint: Option<&str>) -> Vec<&'static str> {
        let mut order = Vec::with_capacity(PROBE_ORDER.len());
        let known = |extension: &str| {
            self.readable.iter().map(|codec| codec.extension()).find(|known| *known == extension)
        };
        let likely = hint.into_iter().chain([self.writer.extension()]);
        for extension in likely.chain(PROBE_ORDER.iter().copied()).filter_map(known) {
            if !order.contains(&extension) {
                order.push(extension);
            }
        }
        order
    }
}

/// Compress, then encrypt; or the way back.
#[derive(Debug, Clone)]
pub struct Pipeline {
    compressor: SharedCodec,
    cipher: Option<SharedCodec>,
}

impl Pipeline {
    /// The extension of an object written through this, without a dot; empty
    /// without compression.
    pub fn extension(&self) -> &'static str {
        self.compressor.extension()
    }

    /// The bytes one encoder and one decoder hold.
    pub fn footprint(&self) -> Footprint {
        let cipher = self.cipher.as_ref().map(|cipher| cipher.footprint()).unwrap_or_default();
        let own = self.compressor.footprint();
        Footprint { encode: own.encode + cipher.encode, decode: own.decode + cipher.decode }
    }

    /// A writer that compresses, encrypts and passes on to `to`.
    pub fn encoder<'a>(&self, to: impl Write + Send + 'a) -> Result<Box<dyn Finish + Send + 'a>> {
        match &self.cipher {
            None => self.compressor.encoder(Box::new(to)),
            Some(cipher) => Chain::start(cipher.encoder(Box::new(to))?, &self.compressor),
        }
    }

    /// A reader of the original bytes of `from`.
    pub fn decoder<'a>(&self, from: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
        match &self.cipher {
            None => self.compressor.decoder(Box::new(from)),
            Some(cipher) => self.compressor.decoder(cipher.decoder(Box::new(from))?),
        }
    }
}

type SharedFinish<'a> = std::sync::Arc<std::sync::Mutex<Option<Box<dyn Finish + Send + 'a>>>>;

/// The outer transform finishes first, then the inner one.
struct Chain<'a> {
    outer: Box<dyn Finish + Send + 'a>,
    inner: SharedFinish<'a>,
}

struct Shared<'a>(SharedFinish<'a>);

impl<'a> Chain<'a> {
    fn start(
        inner: Box<dyn Finish + Send + 'a>,
        outer: &SharedCodec,
    ) -> Result<Box<dyn Finish + Send + 'a>> {
        let inner = SharedFinish::new(std::sync::Mutex::new(Some(inner)));
        let outer = outer.encoder(Box::new(Shared(inner.clone())))?;
        Ok(Box::new(Chain { outer, inner }))
    }
}

impl Write for Shared<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut inner =
            self.0.lock().map_err(|_| io::Error::other("the cipher's thread failed"))?;
        match inner.as_mut() {
            Some(inner) => inner.write(data),
            None => Err(io::Error::other("the cipher is finished")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut inner =
            self.0.lock().map_err(|_| io::Error::other("the cipher's thread failed"))?;
        inner.as_mut().map_or(Ok(()), std::io::Write::flush)
    }
}

impl Write for Chain<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.outer.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outer.flush()
    }
}

impl Finish for Chain<'_> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.outer.finish()?;
        let inner =
            self.inner.lock().map_err(|_| io::Error::other("the cipher's thread failed"))?.take();
        inner.map_or(Ok(()), Finish::finish)
    }
}
