//! gzip, only to read: old archives hold it, nothing writes it any more.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use walport_engine::codec::{Codec, Finish, Footprint};
use walport_engine::{Error, Kind, Result};

use crate::stream::{BUFFER, Sink, Source, corrupt};

const NAME: &str = "gzip";

/// gzip members, one or more.
#[derive(Debug)]
pub struct Gzip;

impl Codec for Gzip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn extension(&self) -> &'static str {
        "gz"
    }

    fn footprint(&self) -> Footprint {
        // The decoder's window and tables, and the buffer before it.
        Footprint { encode: 0, decode: (BUFFER + (64 << 10)) as u64 }
    }

    fn encoder<'a>(&self, _to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        Err(Error::new(Kind::Unsupported, "gzip can only be read"))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        let from = BufReader::with_capacity(BUFFER, Marked { from, error: None, any: false });
        Ok(Box::new(Reader { members: MultiGzDecoder::new(from), failed: false }))
    }
}

/// Keeps an error of the source apart from what the decoder makes of it.
struct Marked<'a> {
    from: Source<'a>,
    error: Option<io::Error>,
    any: bool,
}

impl Read for Marked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.from.read(into) {
            Ok(read) => {
                self.any |= read > 0;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::from(error.kind());
                self.error = Some(error);
                Err(told)
            }
        }
    }
}

struct Reader<'a> {
    members: MultiGzDecoder<BufReader<Marked<'a>>>,
    failed: bool,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(corrupt(NAME, "an earlier part did not decode"));
        }
        let result = self.members.read(into);
        let marked = self.members.get_mut().get_mut();
        let result = match (result, marked.error.take()) {
            (Err(_), Some(error)) => return Err(error),
            (Err(error), None) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            (Err(error), None) => Err(corrupt(NAME, &error.to_string())),
            (Ok(0), _) if !marked.any => Err(corrupt(NAME, "the stream ends early")),
            (Ok(read), _) => Ok(read),
        };
        self.failed = result.is_err();
        result
    }
}
