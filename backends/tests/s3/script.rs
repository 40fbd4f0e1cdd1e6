//! A server that answers what a test tells it to, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    /// The access key that signed it.
    pub fn signer(&self) -> &str {
        let text = self.headers.get("authorization").map_or("", String::as_str);
        text.split("Credential=").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or("")
    }
}

/// What to answer.
pub enum Reply {
    /// Status line and headers below it, and the body.
    Answer(String, Vec<u8>),
    /// A body that is shorter than announced, then the end.
    Cut(usize, Vec<u8>),
    /// The end of the connection, with no answer.
    Hang,
    /// Nothing, for ever.
    Silence,
}

pub fn ok(body: &str) -> Reply {
    with("", body)
}

/// A success with these header lines, each ended by CR and LF.
pub fn with(headers: &str, body: &str) -> Reply {
    Reply::Answer(format!("200 OK\r\n{headers}"), body.into())
}

pub fn error(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    Reply::Answer(format!("{status} Nope\r\n"), body.into())
}

type Play = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// The running script.
#[derive(Clone)]
pub struct Script {
    pub endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    /// Serves `play`, which gets each request and how many came before it.
    pub async fn run(play: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Self { endpoint, asked: Arc::default() };
        let (play, asked): (Arc<Play>, _) = (Arc::new(play), Arc::clone(&script.asked));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(socket, Arc::clone(&play), Arc::clone(&asked)));
            }
        });
        script
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.is(method, part)).count()
    }
}

async fn converse(mut socket: TcpStream, play: Arc<Play>, asked: Arc<Mutex<Vec<Asked>>>) {
    while let Some(request) = read(&mut socket).await {
        let before = {
            let mut asked = asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        match play(&request, before) {
            Reply::Answer(head, body) => {
                // The head of an answer to HEAD says what the body would be.
                let announced = if head.to_ascii_lowercase().contains("content-length") {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let mut bytes = format!("HTTP/1.1 {head}{announced}\r\n").into_bytes();
                if request.method != "HEAD" {
                    bytes.extend(body);
                }
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Cut(announced, body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"v\"\r\n\r\n"
                );
                let _ = socket.write_all(&[head.as_bytes(), &body].concat()).await;
                let _ = socket.shutdown().await;
                return;
            }
            Reply::Hang => return,
            Reply::Silence => std::future::pending::<()>().await,
        }
    }
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let size = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; size];
    socket.read_exact(&mut body).await.ok()?;
    Some(Asked { method, target, headers, body })
}
