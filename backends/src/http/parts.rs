//! Bodies in parts: how large they are, how many are on their way, and the loop
//! that fills and sends them.
//!
//! A part is a list of the caller's chunks and is never copied. Chunks are held
//! until the store has them, so that a part can be sent again from memory.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::memory::{CHUNK, mib};
use walport_engine::storage::{Body, Put};

use super::Chunks;

const UNIT: u64 = CHUNK as u64;
/// How long a body may be silent with nothing under way before what is there
/// is sent: its producer may be waiting for the chunks we hold.
const STARVED: Duration = Duration::from_secs(1);

/// What a store and its settings allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The part size wanted, a multiple of [`CHUNK`].
    pub part: u64,
    /// The largest part.
    pub max_part: u64,
    /// The most parts.
    pub max_parts: u64,
    /// The most parts on their way.
    pub in_flight: usize,
    /// The bytes for a body whose window is unknown.
    pub memory: u64,
}

/// The parts of one upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    part: u64,
    in_flight: usize,
    /// The largest part that fits into the window.
    most: u64,
    max_parts: u64,
    /// The caller can hold no more than a part.
    cramped: bool,
    /// The producer waits for memory that we hold.
    windowed: bool,
    /// Parts grow, since nobody knows how many there will be.
    grows: bool,
}

fn floor(bytes: u64) -> u64 {
    (bytes / UNIT * UNIT).max(UNIT)
}

impl Plan {
    /// Parts for a body of this size that is stored so.
    ///
    /// Fails with [`Kind::Memory`] if parts as large as the size asks for do not
    /// fit into the window.
    pub fn new(bounds: &Bounds, size: Option<u64>, how: &Put) -> Result<Self> {
        let expected = size.or(how.expected_size);
        // An estimate may be a tenth too low.
        let needed = expected
            .map_or(0, |size| (size / (bounds.max_parts / 10 * 9).max(1)).next_multiple_of(UNIT));
        let window = how.window.unwrap_or(bounds.memory);
        let usable = window.saturating_sub(UNIT);
        // One part on its way while the next one fills.
        let most = floor(usable / 2).min(bounds.max_part);
        if size.is_some() && needed > most {
            return Err(Error::new(
                Kind::Memory,
                format!(
                    "an object of {} MiB needs parts of {} MiB, and {} MiB is what may be held",
                    mib(size.unwrap_or(0)),
                    mib(needed),
                    mib(window)
                ),
            )
            .with_hint(format!(
                "Raise WALPORT_MEMORY_LIMIT by at least {} MiB.",
                mib(2 * needed + UNIT - window.min(2 * needed))
            )));
        }
        let share = floor(usable / (bounds.in_flight as u64 + 1));
        let part = share.min(bounds.part).max(needed).min(most);
        let in_flight =
            (usable / part).saturating_sub(1).clamp(1, bounds.in_flight as u64) as usize;
        Ok(Self {
            part,
            in_flight,
            most,
            max_parts: bounds.max_parts,
            cramped: how.window.is_some_and(|window| window < part + UNIT),
            windowed: how.window.is_some(),
            grows: expected.is_none(),
        })
    }

    /// The size of part `number`, counted from 0.
    fn target(&self, number: u64) -> u64 {
        if !self.grows {
            return self.part;
        }
        let steps = number / (self.max_parts / 16).max(1);
        self.part.saturating_mul(1 + steps).min(self.most)
    }
}

/// One part.
#[derive(Debug)]
pub(crate) struct Part {
    /// Counted from 0.
    pub number: u64,
    /// Where it begins.
    pub offset: u64,
    /// Nothing comes after it. A last part may also come without saying so.
    pub last: bool,
    pub chunks: Chunks,
}

/// What became of a body.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It fits into one request, and nothing was sent.
    Whole(Chunks),
    /// It was sent, in so many parts and bytes.
    Parts { count: u64, size: u64 },
}

/// What of a body is held.
#[derive(Default)]
struct Held {
    list: VecDeque<Bytes>,
    size: u64,
    number: u64,
    offset: u64,
}

impl Held {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.size += chunk.len() as u64;
            self.list.push_back(chunk);
        }
    }

    /// Takes `target` bytes, or what there is.
    fn cut(&mut self, target: u64) -> Chunks {
        let mut wanted = target.min(self.size);
        self.size -= wanted;
        let mut list = Vec::new();
        while wanted > 0 {
            let Some(mut chunk) = self.list.pop_front() else { break };
            if chunk.len() as u64 > wanted {
                let rest = chunk.split_off(wanted as usize);
                self.list.push_front(rest);
            }
            wanted -= chunk.len() as u64;
            list.push(chunk);
        }
        Chunks::new(list)
    }
}

/// Reads `body` and hands its parts to `send`, several at a time. A body that
/// fits into one part is given back whole. After an error nothing of it is on
/// its way any more; the caller removes what the store has.
pub(crate) async fn run<F>(body: Body, plan: Plan, mut send: impl FnMut(Part) -> F) -> Result<Sent>
where
    F: Future<Output = Result<()>>,
{
    let mut stream = body.into_stream();
    let mut held = Held::default();
    let mut flying = FuturesUnordered::new();
    let mut ended = false;
    let mut starved = false;
    loop {
        while flying.len() < plan.in_flight {
            let target = plan.target(held.number);
            let begun = held.number > 0;
            let due = match (ended, begun) {
                (false, _) => {
                    held.size > target || starved || (plan.cramped && held.size == target)
                }
                (true, false) => held.size > target,
                (true, true) => held.size > 0,
            };
            if !due {
                break;
            }
            if held.number == plan.max_parts {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("the object needs more than {} parts", plan.max_parts),
                )
                .with_hint("Raise WALPORT_MEMORY_LIMIT, so that parts can be larger."));
            }
            // Stores want multiples of the unit from all parts but the last.
            let target = if starved { floor(held.size).min(target) } else { target };
            starved = false;
            let (number, offset) = (held.number, held.offset);
            let chunks = held.cut(target);
            held.number += 1;
            held.offset += chunks.size();
            flying.push(send(Part { number, offset, last: ended && held.size == 0, chunks }));
        }
        if ended && flying.is_empty() {
            break;
        }
        let reading = !ended && held.size <= plan.target(held.number);
        let waiting = plan.windowed && reading && flying.is_empty() && held.size >= UNIT;
        tokio::select! {
            biased;
            Some(done) = flying.next(), if !flying.is_empty() => done?,
            chunk = stream.next(), if reading => match chunk {
                Some(chunk) => held.push(chunk?),
                None => ended = true,
            },
            () = tokio::time::sleep(STARVED), if waiting => starved = true,
        }
    }
    if held.number == 0 {
        let size = held.size;
        return Ok(Sent::Whole(held.cut(size)));
    }
    Ok(Sent::Parts { count: held.number, size: held.offset })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use futures_util::stream;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        part: 32 * UNIT,
        max_part: 4 << 30,
        max_parts: 50_000,
        in_flight: 4,
        memory: 64 << 20,
    };

    fn plan(window: Option<u64>, size: Option<u64>, expected: Option<u64>) -> Result<Plan> {
        Plan::new(&BOUNDS, size, &Put { window, expected_size: expected, ..Put::default() })
    }

    #[test]
    fn parts_follow_the_window() {
        let of = |window| {
            let plan = plan(window, None, None).unwrap();
            (plan.part / UNIT, plan.in_flight)
        };
        assert_eq!(of(None), (32, 4));
        assert_eq!(of(Some(24 << 20)), (19, 4));
        assert_eq!(of(Some(4 * UNIT)), (1, 2));
        assert_eq!(of(Some(UNIT)), (1, 1));
        for window in 1..200 {
            let plan = plan(Some(window * UNIT), None, None).unwrap();
            let held = plan.part / UNIT * (plan.in_flight as u64 + 1) + 1;
            assert!(held <= window || window < 3, "{window}: {plan:?}");
        }
    }

    #[test]
    fn large_objects_get_large_parts_or_an_error() {
        let large = plan(Some(64 << 20), Some(1 << 40), None).unwrap();
        assert!(large.part * 50_000 > 1 << 40, "{large:?}");
        let error = plan(Some(24 << 20), Some(10 << 40), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Memory);
        assert!(error.hint().unwrap().contains("WALPORT_MEMORY_LIMIT"));
        let unknown = plan(Some(24 << 20), None, None).unwrap();
        assert!(
            unknown.target(49_999) > unknown.target(0) && unknown.target(49_999) <= unknown.most
        );
    }

    fn body(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| Ok(Bytes::from(vec![n as u8; *size])))
            .collect();
        Body::stream(None, stream::iter(chunks).boxed())
    }

    fn sent(sizes: &[usize], window: u64) -> (Sent, Vec<(u64, u64, bool, u64)>) {
        let seen = Mutex::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let plan = plan(Some(window), None, None).unwrap();
        let done = runtime.block_on(run(body(sizes), plan, |part| {
            seen.lock().unwrap().push((part.number, part.offset, part.last, part.chunks.size()));
            async { Ok(()) }
        }));
        (done.unwrap(), seen.into_inner().unwrap())
    }

    #[test]
    fn a_body_is_cut_into_equal_parts() {
        const U: usize = CHUNK;
        // A window of 16 units makes parts of three.
        for sizes in [&[][..], &[1], &[U, U, U], &[0, 3 * U, 0]] {
            let (done, seen) = sent(sizes, 16 * UNIT);
            assert!(matches!(done, Sent::Whole(_)) && seen.is_empty(), "{sizes:?}");
        }
        let (done, seen) = sent(&[2 * U, 2 * U, 100, 5 * U], 16 * UNIT);
        assert!(
            matches!(done, Sent::Parts { count: 4, size } if size == 9 * UNIT + 100),
            "{done:?}"
        );
        assert_eq!(
            seen,
            [
                (0, 0, false, 3 * UNIT),
                (1, 3 * UNIT, false, 3 * UNIT),
                (2, 6 * UNIT, false, 3 * UNIT),
                (3, 9 * UNIT, true, 100)
            ]
        );
    }

    #[test]
    fn a_producer_that_waits_for_us_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let plan = plan(Some(64 * UNIT), None, None).unwrap();
        let (freed, wait) = tokio::sync::oneshot::channel::<()>();
        let tail = stream::once(async move {
            wait.await.unwrap();
            Ok(Bytes::from_static(b"end"))
        });
        let stream = stream::iter([Ok(Bytes::from(vec![0; CHUNK + 5]))]).chain(tail).boxed();
        let mut freed = Some(freed);
        let mut sizes = Vec::new();
        let done = runtime.block_on(run(Body::stream(None, stream), plan, |part| {
            sizes.push(part.chunks.size());
            if let Some(freed) = freed.take() {
                freed.send(()).unwrap();
            }
            async { Ok(()) }
        }));
        assert!(matches!(done.unwrap(), Sent::Parts { count: 2, .. }));
        assert_eq!(sizes, [UNIT, 8]);
    }

    #[test]
    fn an_error_ends_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let broken =
            stream::iter([Ok(Bytes::from(vec![0; 9 * CHUNK])), Err(Error::new(Kind::Io, "broke"))])
                .boxed();
        let plan = plan(Some(4 * UNIT), None, None).unwrap();
        let error = runtime
            .block_on(run(Body::stream(None, broken), plan, |_| async { Ok(()) }))
            .unwrap_err();
        assert_eq!(error.message(), "broke");
        let refused = |_| async { Err(Error::new(Kind::Denied, "no")) };
        assert_eq!(
            runtime.block_on(run(body(&[9 * CHUNK]), plan, refused)).unwrap_err().kind(),
            Kind::Denied
        );
    }
}
