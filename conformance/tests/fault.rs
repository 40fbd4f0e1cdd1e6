//! The proxy and the scripted server break connections exactly where they are
//! told to.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use walport_conformance::fault::{Dialect, Ending, Fault, Faults, Proxy, Reply, Script, Server};

const BODY: usize = 300_000;

async fn server() -> Server {
    let body = vec![b'x'; BODY];
    let rule = move |_: &_| {
        Some(Reply::ok(body.clone()).header("ETag", "\"one\"").cut(BODY, Ending::Close))
    };
    Server::start(Script::new().rule(rule)).await.unwrap()
}

/// Sends a request; gives what came back, and how it ended.
async fn ask(addr: SocketAddr, request: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut got = Vec::new();
    let result = async {
        stream.write_all(request).await?;
        loop {
            if stream.read_buf(&mut got).await? == 0 {
                return Ok(());
            }
        }
    };
    let result = timeout(Duration::from_secs(20), result).await;
    let result = result.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    (got, result)
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

fn body_of(reply: &[u8]) -> usize {
    let head = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    reply.len() - head
}

#[tokio::test]
async fn replies_are_cut_at_the_byte_and_only_once() {
    let server = server().await;
    let proxy = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    let faults = proxy.faults().clone();
    let (whole, end) = ask(proxy.addr(), GET).await;
    end.unwrap();
    assert_eq!(body_of(&whole), BODY);
    for after in [0, 1, 1000, 200_000] {
        faults.arm(Fault::CloseReply { after });
        let (got, end) = ask(proxy.addr(), GET).await;
        end.unwrap();
        assert_eq!(got.len() as u64, after);
        assert_eq!(got, whole[..after as usize]);
        assert_eq!(faults.fired(), 1);
        // Used up.
        assert_eq!(ask(proxy.addr(), GET).await.0, whole);
    }
    faults.arm_times(Fault::ResetReply { after: 100 }, 2);
    for _ in 0..2 {
        assert_eq!(ask(proxy.addr(), GET).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(ask(proxy.addr(), GET).await.0, whole);
    assert_eq!(faults.fired(), 2);
    assert_eq!(faults.requests(), faults.connections());
}

#[tokio::test]
async fn requests_are_cut_and_the_server_sees_no_more() {
    let server = server().await;
    let proxy = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    let mut put = b"PUT /a HTTP/1.1\r\nContent-Length: 200000\r\n\r\n".to_vec();
    put.resize(put.len() + 200_000, b'y');
    proxy.faults().arm(Fault::ResetRequest { after: 100_000 });
    assert!(ask(proxy.addr(), &put).await.1.is_err());
    assert_eq!(proxy.faults().fired(), 1);
    assert_eq!(server.requests(), []);
    ask(proxy.addr(), &put).await.1.unwrap();
    assert_eq!(server.requests()[0].body_len, 200_000);
}

#[tokio::test]
async fn a_lost_reply_has_taken_effect() {
    let server = server().await;
    let proxy = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    proxy.faults().arm(Fault::LoseReply { nth: 0 });
    let (got, end) = ask(proxy.addr(), GET).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(got, b"");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn silence_lasts_and_slowness_ends() {
    let server = server().await;
    let proxy = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    for fault in [Fault::StallReply { after: 1000 }, Fault::StallRequest { after: 5 }] {
        proxy.faults().arm(fault);
        let waited = timeout(Duration::from_millis(300), ask(proxy.addr(), GET)).await;
        assert!(waited.is_err(), "{waited:?}");
        assert_eq!(proxy.faults().fired(), 1);
    }
    let every = Duration::from_millis(5);
    for fault in
        [Fault::SlowReply { bytes: 30_000, every }, Fault::SlowRequest { bytes: 10, every }]
    {
        proxy.faults().arm(fault);
        let (got, end) = ask(proxy.addr(), GET).await;
        end.unwrap();
        assert_eq!(body_of(&got), BODY);
        assert!(proxy.faults().fired() > 0);
    }
}

#[tokio::test]
async fn http_replies_are_made_up_or_changed() {
    let server = server().await;
    let proxy = Proxy::start(server.addr(), Faults::new()).await.unwrap();
    proxy.faults().arm(Fault::Answer(
        Reply::throttled(Dialect::S3, Duration::from_secs(3)).cut(10, Ending::Close),
    ));
    let (got, _) = ask(proxy.addr(), GET).await;
    let text = String::from_utf8(got.clone()).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: 3\r\n"), "{text}");
    assert_eq!(body_of(&got), 10);
    assert_eq!(server.requests(), []);

    let change = Fault::ReplaceHeader { name: "etag".into(), value: "\"two\"".into() };
    proxy.faults().arm(change);
    let (got, _) = ask(proxy.addr(), GET).await;
    assert!(String::from_utf8_lossy(&got).contains("ETag: \"two\"\r\n"));
    assert_eq!(body_of(&got), BODY);
}

#[tokio::test]
async fn a_script_answers_in_order_and_contradicts_itself_where_told() {
    let script = Script::new()
        .then(Reply::ok("0123456789").cut(4, Ending::Close))
        .then(Reply::ok("0123456789").cut(4, Ending::Stall))
        .then(Reply::expired(Dialect::Azure).cut(usize::MAX, Ending::Close))
        .then(Reply::denied(Dialect::Gcs).cut(usize::MAX, Ending::Close));
    let server = Server::start(script).await.unwrap();
    let (got, end) = ask(server.addr(), GET).await;
    end.unwrap();
    assert!(String::from_utf8_lossy(&got).contains("Content-Length: 10\r\n"));
    assert_eq!(body_of(&got), 4);
    assert!(timeout(Duration::from_millis(300), ask(server.addr(), GET)).await.is_err());
    for expected in ["x-ms-error-code: AuthenticationFailed", "\"reason\":\"forbidden\""] {
        let text = String::from_utf8(ask(server.addr(), GET).await.0).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    let chunked = b"POST /b?c=d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    server.push(Reply::new(201, "").cut(0, Ending::Close));
    ask(server.addr(), chunked).await.1.unwrap();
    let seen = server.requests().pop().unwrap();
    assert_eq!((&*seen.method, &*seen.target, &*seen.body), ("POST", "/b?c=d", &b"abcde"[..]));
}
