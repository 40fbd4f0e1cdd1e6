//! No compression: bytes pass as they are, and the object has no extension.

use std::io::{self, Write};

use walport_engine::Result;
use walport_engine::codec::{Codec, Finish, Footprint};

use crate::stream::{Sink, Source};

/// The identity.
#[derive(Debug)]
pub struct Plain;

impl Codec for Plain {
    fn name(&self) -> &'static str {
        "none"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    fn encoder<'a>(&self, to: Sink<'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        Ok(Box::new(Through(to)))
    }

    fn decoder<'a>(&self, from: Source<'a>) -> Result<Source<'a>> {
        Ok(from)
    }
}

struct Through<'a>(Sink<'a>);

impl Write for Through<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Finish for Through<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}
