//! Bodies: the bytes of an object on their way to a store.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::error::{Error, Kind, Result};

/// A stream of chunks. An error ends it; a store that meets one must abort.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

type Source = Arc<dyn Fn() -> ByteStream + Send + Sync>;

enum Inner {
    Once(ByteStream),
    Again(Source),
}

/// What [`Storage::put`](super::Storage::put) stores: a stream whose size may
/// be known, and which may be one that can be started again.
pub struct Body {
    size: Option<u64>,
    inner: Inner,
}

impl Body {
    /// A body that can be read once.
    pub fn stream(size: Option<u64>, stream: ByteStream) -> Self {
        Self { size, inner: Inner::Once(stream) }
    }

    /// A body that can be started again from its first byte, which lets retry
    /// repeat a whole `put`.
    pub fn again(
        size: Option<u64>,
        source: impl Fn() -> ByteStream + Send + Sync + 'static,
    ) -> Self {
        Self { size, inner: Inner::Again(Arc::new(source)) }
    }

    /// Bytes already in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::again(Some(bytes.len() as u64), move || {
            let bytes = bytes.clone();
            stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed()
        })
    }

    /// The size in bytes, where it is known beforehand. A stream that ends at
    /// another size is an error.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// A second body of the same bytes, if this one can be started again.
    pub fn replay(&self) -> Option<Self> {
        match &self.inner {
            Inner::Once(_) => None,
            Inner::Again(source) => {
                Some(Self { size: self.size, inner: Inner::Again(Arc::clone(source)) })
            }
        }
    }

    /// The same body with its stream passed through `change`, which must keep
    /// the number of bytes. One that can be started again still can.
    pub fn map(self, change: impl Fn(ByteStream) -> ByteStream + Send + Sync + 'static) -> Self {
        let inner = match self.inner {
            Inner::Once(stream) => Inner::Once(change(stream)),
            Inner::Again(source) => Inner::Again(Arc::new(move || change(source()))),
        };
        Self { size: self.size, inner }
    }

    /// The chunks, checked against the size where one was given: a body that
    /// ends early or runs over yields an error as its last item.
    pub fn into_stream(self) -> ByteStream {
        let stream = match self.inner {
            Inner::Once(stream) => stream,
            Inner::Again(source) => source(),
        };
        match self.size {
            None => stream,
            Some(size) => exactly(size, stream),
        }
    }
}

/// Passes `stream` on and fails unless it carries exactly `size` bytes.
pub fn exactly(size: u64, stream: ByteStream) -> ByteStream {
    let state = (stream, 0_u64, false);
    stream::unfold(state, move |(mut stream, seen, done)| async move {
        if done {
            return None;
        }
        match stream.next().await {
            Some(Ok(chunk)) => {
                let seen = seen + chunk.len() as u64;
                if seen > size {
                    return Some((Err(wrong_size(size, seen)), (stream, seen, true)));
                }
                Some((Ok(chunk), (stream, seen, false)))
            }
            Some(Err(error)) => Some((Err(error), (stream, seen, true))),
            None if seen == size => None,
            None => Some((Err(wrong_size(size, seen)), (stream, seen, true))),
        }
    })
    .boxed()
}

fn wrong_size(expected: u64, seen: u64) -> Error {
    let how = if seen > expected { "goes on past" } else { "ended before" };
    Error::new(
        Kind::Corrupt,
        format!("the body {how} its size: {expected} bytes expected, {seen} seen"),
    )
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = matches!(self.inner, Inner::Again(_));
        f.debug_struct("Body").field("size", &self.size).field("again", &again).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn collect(body: Body) -> Result<Vec<u8>> {
        futures_executor::block_on(async {
            let mut all = Vec::new();
            let mut stream = body.into_stream();
            while let Some(chunk) = stream.next().await {
                all.extend_from_slice(&chunk?);
            }
            Ok(all)
        })
    }

    #[test]
    fn bytes_can_be_replayed() {
        let body = Body::bytes("abc");
        assert_eq!(collect(body.replay().unwrap()).unwrap(), b"abc");
        assert_eq!(collect(body).unwrap(), b"abc");
    }

    #[test]
    fn a_body_of_the_wrong_size_is_an_error() {
        for (size, data) in [(2_u64, "abc"), (4, "abc")] {
            let stream = stream::iter([Ok(Bytes::from(data))]).boxed();
            let error = collect(Body::stream(Some(size), stream)).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}
