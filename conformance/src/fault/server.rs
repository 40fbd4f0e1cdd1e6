//! An HTTP/1.1 server that plays a script.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::{Request, read_request};
use super::reply::{Ending, Reply};

type Rule = Box<dyn Fn(&Request) -> Option<Reply> + Send>;

/// What a [`Server`] answers: replies in order, and rules for what is left.
#[derive(Default)]
pub struct Script {
    next: VecDeque<Reply>,
    rules: Vec<Rule>,
}

impl Script {
    /// A script that answers everything with 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reply to the queue; each request takes one.
    pub fn then(mut self, reply: Reply) -> Self {
        self.next.push_back(reply);
        self
    }

    /// When the queue is empty: the first rule that gives a reply answers.
    pub fn rule(mut self, rule: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.next.pop_front() {
            return reply;
        }
        self.rules.iter().find_map(|rule| rule(request)).unwrap_or_else(|| Reply::new(404, ""))
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script")
            .field("next", &self.next)
            .field("rules", &self.rules.len())
            .finish()
    }
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Request>>,
}

/// A server on a free port of 127.0.0.1. It ends when it is dropped.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

impl Server {
    /// Starts the server on the runtime of the caller.
    pub async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { script: Mutex::new(script), seen: Mutex::default() });
        let serving = Arc::clone(&shared);
        let accept = tokio::spawn(async move {
            // Connections die with this set, so a dropped server is silent.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        log::debug!("scripted server: {error}");
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, shared, accept })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a reply to the end of the queue.
    pub fn push(&self, reply: Reply) {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).next.push_back(reply);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let reply = shared.script.lock().unwrap_or_else(PoisonError::into_inner).answer(&request);
        let head_only = request.method == "HEAD";
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        reply.write(&mut stream, head_only).await?;
        match reply.ending() {
            Ending::KeepAlive => {}
            Ending::Close => break,
            Ending::Reset => {
                stream.set_zero_linger()?;
                break;
            }
            Ending::Stall => std::future::pending().await,
        }
    }
    Ok(())
}
