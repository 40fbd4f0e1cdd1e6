//! A TCP proxy that breaks connections on command.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::http::{begins_request, head_end, read_request};
use super::reply::{Ending, Reply};
use super::{Fault, Faults};

/// The most bytes that pass at a time; faults count exactly, whatever it is.
const PIECE: usize = 32 << 10;

/// A proxy on a free port of 127.0.0.1. It ends, with its connections, when it
/// is dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    faults: Faults,
    accept: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `server` that obeys `faults`, on the runtime of the
    /// caller.
    pub async fn start(server: SocketAddr, faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let switch = faults.clone();
        let accept = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                switch.state().connections += 1;
                let faults = switch.clone();
                connections.spawn(async move {
                    if let Err(error) = connect(client, server, faults).await {
                        log::debug!("proxy: {error}");
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, faults, accept })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The switch.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Why a direction ended.
enum End {
    /// The peer closed, or a fault closes.
    Closed,
    /// A fault resets the connection.
    Reset,
}

/// Bytes that passed in one direction since the fault was armed.
#[derive(Default)]
struct Counter {
    round: u64,
    passed: u64,
}

impl Counter {
    fn since(&mut self, round: u64) -> u64 {
        if self.round != round {
            *self = Counter { round, passed: 0 };
        }
        self.passed
    }
}

async fn connect(mut client: TcpStream, server: SocketAddr, faults: Faults) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    // Requests that were answered here need the client's write half, which the
    // replies own: they are handed over.
    let handed = Handed::default();
    let end = {
        let up = requests(client_read, server_write, &faults, &handed);
        let down = replies(server_read, client_write, &faults, &handed);
        tokio::pin!(up, down);
        tokio::select! {
            end = &mut down => end?,
            // The client may close its half early; replies still pass.
            end = &mut up => match end? {
                End::Closed => down.await?,
                End::Reset => End::Reset,
            },
        }
    };
    if matches!(end, End::Reset) {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// A reply made up here, on its way from the request side to the reply side.
#[derive(Default)]
struct Handed {
    reply: std::sync::Mutex<Option<(Reply, bool)>>,
    ready: Notify,
    /// How many times the client has begun to speak: what comes back after
    /// that is a new reply.
    turns: std::sync::atomic::AtomicU32,
}

impl Handed {
    fn put(&self, reply: Reply, head_only: bool) {
        *self.reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((reply, head_only));
        self.ready.notify_one();
    }

    fn take(&self) -> Option<(Reply, bool)> {
        self.reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn turn(&self) {
        self.turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn turns(&self) -> u32 {
        self.turns.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Client to server.
async fn requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    faults: &Faults,
    handed: &Handed,
) -> io::Result<End> {
    let mut counter = Counter::default();
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        piece.clear();
        if from.read_buf(&mut piece).await? == 0 {
            to.shutdown().await?;
            return Ok(End::Closed);
        }
        handed.turn();
        let is_request = begins_request(&piece);
        if is_request {
            faults.state().requests += 1;
        }
        let (fault, round) = faults.now();
        let passed = counter.since(round);
        let mut rest = &piece[..];
        match fault {
            Some(Fault::Answer(reply)) if is_request && faults.fire(round) => {
                if let Some(request) = read_request(&mut from, &mut piece).await? {
                    handed.put(reply, request.method == "HEAD");
                }
                continue;
            }
            Some(Fault::ResetRequest { after }) if passed + rest.len() as u64 > after => {
                to.write_all(&rest[..(after - passed) as usize]).await?;
                if faults.fire(round) {
                    return Ok(End::Reset);
                }
                rest = &rest[(after - passed) as usize..];
            }
            Some(Fault::StallRequest { after }) if passed + rest.len() as u64 > after => {
                to.write_all(&rest[..(after - passed) as usize]).await?;
                if faults.fire(round) {
                    std::future::pending::<()>().await;
                }
                rest = &rest[(after - passed) as usize..];
            }
            Some(Fault::SlowRequest { bytes, every }) => {
                trickle(&mut to, rest, bytes, every, faults, round).await?;
                rest = &[];
            }
            _ => {}
        }
        to.write_all(rest).await?;
        counter.passed += piece.len() as u64;
        faults.state().bytes += piece.len() as u64;
    }
}

/// Server to client.
async fn replies(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    faults: &Faults,
    handed: &Handed,
) -> io::Result<End> {
    let mut counter = Counter::default();
    // The number of replies that passed in the round, and the turn of the last.
    let mut passing = (0_u64, 0_u32, handed.turns());
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        piece.clear();
        tokio::select! {
            read = from.read_buf(&mut piece) => if read? == 0 {
                to.shutdown().await?;
                return Ok(End::Closed);
            },
            () = handed.ready.notified() => {
                match answer(&mut to, handed).await? {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
        }
        let (fault, round) = faults.now();
        let passed = counter.since(round);
        if let Some(Fault::LoseReply { nth }) = fault {
            let turn = handed.turns();
            if passing.0 != round {
                passing = (round, 0, turn);
            } else if passing.2 != turn {
                passing = (round, passing.1 + 1, turn);
            }
            if passing.1 >= nth && faults.fire(round) {
                return Ok(End::Reset);
            }
        }
        let length = piece.len() as u64;
        if let Some(end) = reply_piece(&mut to, &mut piece, fault, (passed, round), faults).await? {
            return Ok(end);
        }
        counter.passed += length;
        faults.state().bytes += length;
    }
}

async fn answer(to: &mut WriteHalf<'_>, handed: &Handed) -> io::Result<Option<End>> {
    let Some((reply, head_only)) = handed.take() else { return Ok(None) };
    reply.write(to, head_only).await?;
    match reply.ending() {
        Ending::KeepAlive => Ok(None),
        Ending::Close => Ok(Some(End::Closed)),
        Ending::Reset => Ok(Some(End::Reset)),
        Ending::Stall => std::future::pending().await,
    }
}

/// Passes one piece of a reply on, or does to it what the fault says.
async fn reply_piece(
    to: &mut WriteHalf<'_>,
    piece: &mut BytesMut,
    fault: Option<Fault>,
    (passed, round): (u64, u64),
    faults: &Faults,
) -> io::Result<Option<End>> {
    let length = piece.len() as u64;
    match fault {
        Some(
            Fault::ResetReply { after } | Fault::CloseReply { after } | Fault::StallReply { after },
        ) if passed + length > after => {
            let keep = after.saturating_sub(passed) as usize;
            to.write_all(&piece[..keep]).await?;
            to.flush().await?;
            if faults.fire(round) {
                return match fault {
                    Some(Fault::ResetReply { .. }) => Ok(Some(End::Reset)),
                    Some(Fault::StallReply { .. }) => std::future::pending().await,
                    _ => Ok(Some(End::Closed)),
                };
            }
            to.write_all(&piece[keep..]).await?;
        }
        Some(Fault::SlowReply { bytes, every }) => {
            trickle(to, piece, bytes, every, faults, round).await?;
        }
        Some(Fault::ReplaceHeader { name, value }) if piece.starts_with(b"HTTP/1.1 ") => {
            let changed = head_end(piece).and_then(|end| replace_header(piece, end, &name, &value));
            match changed {
                Some(changed) if faults.fire(round) => to.write_all(&changed).await?,
                _ => to.write_all(piece).await?,
            }
        }
        _ => to.write_all(piece).await?,
    }
    Ok(None)
}

/// The piece with the value of one header replaced; `None` if it has none such.
fn replace_header(piece: &[u8], end: usize, name: &str, value: &str) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(&piece[..end]).ok()?;
    let mut found = false;
    let mut changed = String::with_capacity(end + value.len());
    for line in head.split_inclusive("\r\n") {
        match line.split_once(':') {
            Some((known, _)) if known.eq_ignore_ascii_case(name) => {
                found = true;
                let _ = write!(changed, "{known}: {value}\r\n");
            }
            _ => changed.push_str(line),
        }
    }
    let mut changed = changed.into_bytes();
    changed.extend_from_slice(&piece[end..]);
    found.then_some(changed)
}

async fn trickle(
    to: &mut WriteHalf<'_>,
    piece: &[u8],
    bytes: usize,
    every: std::time::Duration,
    faults: &Faults,
    round: u64,
) -> io::Result<()> {
    for few in piece.chunks(bytes.max(1)) {
        if faults.now().1 == round {
            tokio::time::sleep(every).await;
        }
        to.write_all(few).await?;
        to.flush().await?;
    }
    faults.state().fired += 1;
    Ok(())
}
