//! Networks and servers that fail on purpose, on loopback.
//!
//! - [`Proxy`] stands between a client and a real server and passes every byte
//!   on, until a [`Fault`] is armed on its [`Faults`] switch. It does not look
//!   inside the stream, except for the faults that are about HTTP.
//! - [`Server`] plays an HTTP/1.1 server from a script of [`Reply`]s, and
//!   records what it was asked.
//!
//! Both speak plain TCP: give the client an `http://` endpoint.
//!
//! ```no_run
//! # use walport_conformance::fault::{Fault, Faults, Proxy};
//! # async fn f(server: std::net::SocketAddr) -> std::io::Result<()> {
//! let faults = Faults::new();
//! let proxy = Proxy::start(server, faults.clone()).await?;
//! // ... open a store at proxy.addr() ...
//! faults.arm(Fault::ResetReply { after: 100_000 }); // once
//! // ... the next reply breaks after 100,000 bytes ...
//! assert_eq!(faults.fired(), 1);
//! # Ok(()) }
//! ```

mod http;
mod proxy;
mod reply;
mod server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use http::Request;
pub use proxy::Proxy;
pub use reply::{Dialect, Ending, Reply};
pub use server::{Script, Server};

/// What goes wrong on a connection. Bytes are counted per connection, from the
/// first byte that passes after the fault was armed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection is reset when `after` bytes of replies have passed.
    ResetReply {
        /// Bytes that still pass.
        after: u64,
    },
    /// The connection is closed in good order when `after` bytes of replies have
    /// passed: a body shorter than its Content-Length.
    CloseReply {
        /// Bytes that still pass.
        after: u64,
    },
    /// Silence when `after` bytes of replies have passed; the connection stays.
    StallReply {
        /// Bytes that still pass.
        after: u64,
    },
    /// The connection is reset when `after` bytes of requests have passed.
    ResetRequest {
        /// Bytes that still pass.
        after: u64,
    },
    /// No byte of a request is read any more when `after` have passed.
    StallRequest {
        /// Bytes that still pass.
        after: u64,
    },
    /// The server acts, and its answer is lost: the connection is reset instead
    /// of passing the reply number `nth` on, counted from 0, where a reply is
    /// what arrives after something was sent.
    LoseReply {
        /// Replies that still pass.
        nth: u32,
    },
    /// Replies pass, slowly.
    SlowReply {
        /// Bytes at a time.
        bytes: usize,
        /// The pause before each.
        every: Duration,
    },
    /// Requests pass, slowly.
    SlowRequest {
        /// Bytes at a time.
        bytes: usize,
        /// The pause before each.
        every: Duration,
    },
    /// HTTP: the next request does not reach the server and gets this reply.
    Answer(Reply),
    /// HTTP: the value of a header of the next reply is replaced, where the
    /// reply has it. The name is compared in any case.
    ReplaceHeader {
        /// The header's name.
        name: String,
        /// Its new value.
        value: String,
    },
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Fault>,
    left: u32,
    /// Grows with each arming, so that connections count anew.
    round: u64,
    fired: u64,
    requests: u64,
    connections: u64,
    bytes: u64,
}

/// The switch of a [`Proxy`]. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// A switch with nothing armed.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault that happens once. It replaces what was armed.
    pub fn arm(&self, fault: Fault) {
        self.arm_times(fault, 1);
    }

    /// Arms a fault that happens `times` times. The slow faults last until they
    /// are disarmed, whatever the number.
    pub fn arm_times(&self, fault: Fault, times: u32) {
        let mut state = self.state();
        state.armed = (times > 0).then_some(fault);
        state.left = times;
        state.round += 1;
        state.fired = 0;
    }

    /// Lets everything pass again. What is silent stays silent.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.armed = None;
        state.round += 1;
    }

    /// How many times the fault armed last has happened.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// How many HTTP requests the proxy has seen, counted by their first line.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// How many connections the proxy has accepted.
    pub fn connections(&self) -> u64 {
        self.state().connections
    }

    /// How many bytes have passed, both ways.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// What is armed now, and in which round.
    fn now(&self) -> (Option<Fault>, u64) {
        let state = self.state();
        (state.armed.clone(), state.round)
    }

    /// Takes one happening of the fault of `round`; false if it is used up, or
    /// another was armed meanwhile.
    fn fire(&self, round: u64) -> bool {
        let mut state = self.state();
        if state.round != round || state.left == 0 {
            return false;
        }
        state.left -= 1;
        state.fired += 1;
        if state.left == 0 {
            state.armed = None;
        }
        true
    }
}
