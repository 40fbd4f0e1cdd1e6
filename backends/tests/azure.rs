//! Azure against Azurite, and against servers that play a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use ring::hmac;
use support::{Server, bytes, installed, open, proxy, run, streamed};
use walport_backends::azure::BACKEND;
use walport_conformance::fault::{Dialect, Fault, Reply, Script, Server as Scripted};
use walport_conformance::{Subject, Unfit, check};
use walport_engine::error::{Class, Kind};
use walport_engine::storage::{Body, Entry, Get, Key, List, Put, Result, StorageExt, Store};

/// The account that Azurite comes with; its key is public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn azurite() -> Server {
    let script = installed("azurite/node_modules/azurite/dist/src/blob/main.js");
    let server = Server::start(|port, data| {
        let mut command = Command::new("node");
        command
            .arg(script)
            .args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
                "--silent",
                "--disableTelemetry",
                "--skipApiVersionCheck",
                "--location",
            ])
            .arg(data);
        command
    });
    create(server.address, "box");
    server
}

fn sign(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).unwrap());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// Creates a container, with a signature made here.
fn create(address: SocketAddr, container: &str) {
    let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let text = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-12-02\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    );
    let request = format!(
        "PUT /{ACCOUNT}/{container}?restype=container HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nx-ms-date: {date}\r\nx-ms-version: 2021-12-02\r\nAuthorization: SharedKey {ACCOUNT}:{}\r\nConnection: close\r\n\r\n",
        sign(&text)
    );
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}/{ACCOUNT}")
}

async fn store(address: SocketAddr, more: &[(&str, &str)], retries: u32) -> Result<Store> {
    let endpoint = endpoint(address);
    let values = [("WALPORT_AZURE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_ACCESS_KEY", KEY)];
    let values: Vec<_> = values.iter().chain(more).copied().collect();
    open(&BACKEND, "azure://box/some/root", &values, retries).await
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[test]
fn azurite_conforms() -> Result<(), Unfit> {
    let server = azurite();
    let (address, faults) = proxy(server.address);
    let counted = faults.clone();
    let opened = move || -> futures_util::future::BoxFuture<'static, Result<Store>> {
        Box::pin(store(address, &[("AZURE_BUFFER_SIZE", "1048576")], 0))
    };
    let subject = Subject::new("azure on Azurite", opened)
        .with_requests(move || counted.requests())
        .with_faults(faults, Some(Dialect::Azure), opened);
    check(subject)
}

#[test]
fn blocks_of_all_sizes_arrive() {
    const BLOCK: usize = 256 << 10;
    let server = azurite();
    run(async {
        let store = store(server.address, &[("AZURE_BUFFER_SIZE", "1024")], 0).await.unwrap();
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 9 * BLOCK + 17] {
            let data = bytes(size);
            let name = key(&format!("sizes/{size}"));
            let how = Put { window: Some(1 << 20), ..Put::default() };
            let stored = store.put(&name, streamed(&data), how).await.unwrap();
            assert_eq!(stored.size, size as u64);
            assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), data, "{size}");
            let meta = store.head(&name).await.unwrap();
            assert_eq!((meta.size, meta.version), (size as u64, stored.version), "{size}");
        }
        let odd = key("odd/a b+c%41=é☃&<>'\"~!:@,;e$f(g)*h?i#j");
        store.put_bytes(&odd, "odd", Put::default()).await.unwrap();
        assert_eq!(store.get_bytes(&odd, 9).await.unwrap(), b"odd");
        let listed = store.list_all(&key("odd/"), List::default()).await.unwrap();
        assert!(matches!(&listed[..], [Entry::Object(name, _)] if *name == odd), "{listed:?}");
    });
}

#[test]
fn listings_go_on_after_a_page_and_after_a_name() {
    let server = azurite();
    run(async {
        for version in ["2021-12-02", "2026-02-06"] {
            let store = store(server.address, &[("AZURE_BLOB_STORE_API_VERSION", version)], 0)
                .await
                .unwrap();
            let names: Vec<_> =
                (0..1100).map(|n| key(&format!("{version}/pages/{n:04}"))).collect();
            for some in names.chunks(50) {
                let puts =
                    some.iter().map(|name| store.put(name, Body::bytes("x"), Put::default()));
                futures_util::future::try_join_all(puts).await.unwrap();
            }
            let folder = key(&format!("{version}/pages/"));
            let listed = store.list_all(&folder, List::default()).await.unwrap();
            assert_eq!(listed.iter().map(|entry| entry.key().clone()).collect::<Vec<_>>(), names);
            let how = List { recursive: true, after: Some(names[1049].clone()) };
            assert_eq!(store.list_all(&folder, how).await.unwrap().len(), 50);
            let deleted = store.delete(&names).await.unwrap();
            assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
            assert!(store.list_all(&folder, List::default()).await.unwrap().is_empty());
        }
    });
}

#[test]
fn keys_signatures_and_connection_strings_are_let_in() {
    let server = azurite();
    let end = (Utc::now() + chrono::Duration::hours(1)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let sas = |permissions: &str| {
        let signature =
            sign(&format!("{ACCOUNT}\n{permissions}\nb\nco\n\n{end}\n\n\n2021-12-02\n\n"));
        format!("?sv=2021-12-02&ss=b&srt=co&sp={permissions}&se={end}&sig={signature}")
    };
    let endpoint = endpoint(server.address);
    let string = format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
    );
    let signed = format!(
        "BlobEndpoint={endpoint};SharedAccessSignature={}",
        sas("rwdlc").trim_start_matches('?')
    );
    let full = sas("rwdlc");
    run(async {
        for values in [
            &[
                ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
                ("AZURE_STORAGE_ACCOUNT", ACCOUNT),
                ("AZURE_STORAGE_ACCESS_KEY", KEY),
            ][..],
            &[("WALPORT_AZURE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_SAS_TOKEN", &full)],
            &[("AZURE_STORAGE_CONNECTION_STRING", &string)],
            &[("AZURE_STORAGE_CONNECTION_STRING", &signed)],
        ] {
            let store = open(&BACKEND, "azure://box/logins", values, 0).await.unwrap();
            let (from, to) = (key("from"), key("to"));
            let how = Put { window: Some(1 << 20), ..Put::default() };
            store.put(&from, streamed(&bytes(3 << 20)), how).await.unwrap();
            assert_eq!(store.copy(&from, &to).await.unwrap().size, 3 << 20);
            assert_eq!(store.get_bytes(&to, 1 << 30).await.unwrap(), bytes(3 << 20));
            assert_eq!(store.list_all(&Key::root(), List::recursive()).await.unwrap().len(), 2);
            store.delete(&[from, to]).await.unwrap();
        }
        // A signature that may only read.
        let poor = sas("r");
        let store = open(
            &BACKEND,
            "azure://box",
            &[("WALPORT_AZURE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_SAS_TOKEN", &poor)],
            0,
        )
        .await
        .unwrap();
        let error = store.put_bytes(&key("a"), "b", Put::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Denied, Class::Never), "{error}");
        assert!(error.hint().is_some());
    });
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_a_hint() {
    let server = azurite();
    let endpoint = endpoint(server.address);
    let other = STANDARD.encode("another key");
    run(async {
        for (container, secret, kind, hint) in [
            // Azure itself says AuthenticationFailed; the unit tests have that.
            ("box", other.as_str(), Kind::Denied, "AZURE_STORAGE_ACCESS_KEY"),
            ("nobox", KEY, Kind::Config, "container does not exist"),
        ] {
            let values = [
                ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
                ("AZURE_STORAGE_ACCESS_KEY", secret),
            ];
            let store = open(&BACKEND, &format!("azure://{container}"), &values, 3).await.unwrap();
            let name = key("a");
            let listed = store.list_all(&Key::root(), List::default()).await.map(drop);
            let errors = [
                store.head(&name).await.map(drop),
                store.get(&name, Get::default()).await.map(drop),
                store.put_bytes(&name, "b", Put::default()).await.map(drop),
                store.put_bytes(&name, "b", Put::create()).await.map(drop),
                listed,
                store.copy(&name, &key("b")).await.map(drop),
                store.delete(std::slice::from_ref(&name)).await.unwrap().remove(0).outcome,
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert_eq!((error.kind(), error.class()), (kind, Class::Never), "{error}");
                assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
                assert!(
                    !error.to_string().contains('\n') && !error.to_string().contains(secret),
                    "{error}"
                );
            }
        }
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = store(closed, &[], 0).await.unwrap().head(&key("a")).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Unavailable, Class::Transient));
        assert!(error.hint().unwrap().contains("listens"));
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_recognised() {
    let server = azurite();
    let (address, faults) = proxy(server.address);
    run(async {
        let store =
            store(address, &[("AZURE_BUFFER_SIZE", "262144"), ("AZURE_MAX_BUFFERS", "1")], 3)
                .await
                .unwrap();
        let data = bytes(1 << 20);
        let how = Put { window: Some(1 << 20), ..Put::create() };
        // Four blocks, then the commit, whose reply is lost.
        faults.arm(Fault::LoseReply { nth: 4 });
        let stored = store.put(&key("lost"), streamed(&data), how.clone()).await.unwrap();
        assert_eq!((stored.size, faults.fired()), (1 << 20, 1));
        assert_eq!(store.get_bytes(&key("lost"), 1 << 30).await.unwrap(), data);
        // The same of one request: nobody can know.
        faults.arm(Fault::LoseReply { nth: 0 });
        let error = store.put(&key("single"), Body::bytes("x"), how.clone()).await.unwrap_err();
        assert_eq!(error.class(), Class::Ambiguous, "{error}");
        assert_eq!(
            store.put(&key("single"), Body::bytes("y"), how).await.unwrap_err().kind(),
            Kind::AlreadyExists
        );
        // Blocks are sent again from memory.
        for fault in
            [Fault::ResetRequest { after: 300_000 }, Fault::Answer(Reply::internal(Dialect::Azure))]
        {
            faults.arm(fault);
            store
                .put(
                    &key("again"),
                    streamed(&data),
                    Put { window: Some(1 << 20), ..Put::default() },
                )
                .await
                .unwrap();
            assert_eq!(faults.fired(), 1);
            assert_eq!(store.get_bytes(&key("again"), 1 << 30).await.unwrap(), data);
        }
    });
}

/// A server that is the token service and the store at once.
async fn play(token: fn(&walport_conformance::fault::Request, usize) -> Option<Reply>) -> Scripted {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let script = Script::new().rule(move |request| {
        if let Some(reply) = token(request, count.load(std::sync::atomic::Ordering::Relaxed)) {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Some(reply);
        }
        match request.header("authorization") {
            Some("Bearer good") => Some(
                Reply::ok("")
                    .header("Content-Length", "7")
                    .header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                    .header("ETag", "\"v\""),
            ),
            _ => Some(Reply::new(401, "").header("x-ms-error-code", "InvalidAuthenticationInfo")),
        }
    });
    Scripted::start(script).await.unwrap()
}

#[allow(clippy::unnecessary_wraps)] // what a script answers
fn answer(token: &str, seconds: i64) -> Option<Reply> {
    Some(Reply::ok(format!(
        r#"{{"access_token":"{token}","expires_in":"{seconds}","token_type":"Bearer"}}"#
    )))
}

#[test]
fn a_managed_identity_is_used_and_renewed() {
    run(async {
        // The first token is refused by the store, as one that was revoked.
        let server = play(|request, before| {
            let asks = request.method == "GET" && request.target.starts_with("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F");
            asks.then(|| answer(if before == 0 { "stale" } else { "good" }, 86_000)).flatten()
        })
        .await;
        let url = server.url();
        let endpoint = format!("{url}/acme");
        let values = [
            ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &url),
            ("AZURE_CLIENT_ID", "one-of-many"),
        ];
        let store = open(&BACKEND, "azure://box", &values, 0).await.unwrap();
        assert_eq!(store.head(&key("a")).await.unwrap().size, 7);
        assert_eq!(store.head(&key("b")).await.unwrap().size, 7);
        let asked: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|request| request.target.starts_with("/metadata"))
            .collect();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|request| request.header("metadata") == Some("true")
            && request.target.ends_with("&client_id=one-of-many")));
    });
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    run(async {
        let server = play(|request, _| {
            request.target.starts_with("/msi").then(|| answer("good", 60)).flatten()
        })
        .await;
        let (endpoint, service) =
            (format!("{}/acme", server.url()), format!("{}/msi/token", server.url()));
        let values = [
            ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
            ("IDENTITY_ENDPOINT", &service),
            ("IDENTITY_HEADER", "shh"),
        ];
        let store = open(&BACKEND, "azure://box", &values, 0).await.unwrap();
        for _ in 0..3 {
            store.head(&key("a")).await.unwrap();
        }
        let asked: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|request| request.target.starts_with("/msi"))
            .collect();
        assert_eq!(asked.len(), 3, "a token of a minute is renewed at once");
        assert!(asked.iter().all(|request| request.header("x-identity-header") == Some("shh")));
    });
}

#[test]
fn principals_and_workloads_exchange_what_they_have() {
    run(async {
        let server = play(|request, _| {
            (request.method == "POST" && request.target == "/my-tenant/oauth2/v2.0/token")
                .then(|| answer("good", 3600))
                .flatten()
        })
        .await;
        let endpoint = format!("{}/acme", server.url());
        let url = server.url();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "the.jwt\n").unwrap();
        let common = [
            ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
            ("AZURE_AUTHORITY_HOST", &url),
            ("AZURE_TENANT_ID", "my-tenant"),
            ("AZURE_CLIENT_ID", "my-app"),
        ];
        for (proof, sent) in [
            (("AZURE_CLIENT_SECRET", "a secret+"), "client_secret=a%20secret%2B"),
            (
                ("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().unwrap()),
                "client_assertion=the.jwt",
            ),
        ] {
            let values: Vec<_> = common.into_iter().chain([proof]).collect();
            let store = open(&BACKEND, "azure://box", &values, 0).await.unwrap();
            store.head(&key("a")).await.unwrap();
            let asked = server
                .requests()
                .into_iter()
                .rev()
                .find(|request| request.method == "POST")
                .unwrap();
            let form = String::from_utf8(asked.body).unwrap();
            assert!(
                form.contains(sent)
                    && form.contains("client_id=my-app")
                    && form.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default"),
                "{form}"
            );
        }
        let error = open(
            &BACKEND,
            "azure://box",
            &[("WALPORT_AZURE_ENDPOINT", endpoint.as_str()), ("AZURE_CLIENT_SECRET", "s")],
            0,
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.hint().is_some());
    });
}

#[test]
fn a_token_service_that_refuses_is_quoted() {
    run(async {
        let server = play(|request, _| {
            let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}"#;
            (request.method == "POST").then(|| Reply::new(401, body))
        })
        .await;
        let (endpoint, url) = (format!("{}/acme", server.url()), server.url());
        let values = [
            ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
            ("AZURE_AUTHORITY_HOST", &url),
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", "my-secret"),
        ];
        let error = open(&BACKEND, "azure://box", &values, 3)
            .await
            .unwrap()
            .head(&key("a"))
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Unauthenticated, Class::Never));
        assert!(
            error.to_string().contains("AADSTS7000215") && !error.to_string().contains("my-secret"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("AZURE_CLIENT_SECRET"));
        // A host outside of Azure has no metadata service.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nowhere = format!("http://{closed}");
        let values = [
            ("WALPORT_AZURE_ENDPOINT", endpoint.as_str()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &nowhere),
        ];
        let error = open(&BACKEND, "azure://box", &values, 0)
            .await
            .unwrap()
            .head(&key("a"))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("managed identity")
                && error.hint().unwrap().contains("AZURE_STORAGE_ACCESS_KEY"),
            "{error}"
        );
    });
}

#[test]
fn a_copy_that_takes_its_time_is_waited_for() {
    run(async {
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let script = Script::new().rule(move |request| {
            let plain = || {
                Reply::ok("")
                    .header("Content-Length", "7")
                    .header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                    .header("ETag", "\"v\"")
            };
            if request.method == "PUT" {
                return Some(
                    Reply::new(202, "")
                        .header("x-ms-copy-id", "c1")
                        .header("x-ms-copy-status", "pending"),
                );
            }
            if !request.target.contains("/to") {
                return Some(plain());
            }
            let seen = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let status = if seen < 2 { "pending" } else { "success" };
            Some(plain().header("x-ms-copy-id", "c1").header("x-ms-copy-status", status))
        });
        let server = Scripted::start(script).await.unwrap();
        let endpoint = format!("{}/acme", server.url());
        let store = open(
            &BACKEND,
            "azure://box",
            &[("WALPORT_AZURE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_ACCESS_KEY", KEY)],
            0,
        )
        .await
        .unwrap();
        assert_eq!(store.copy(&key("from"), &key("to")).await.unwrap().size, 7);
        let asked = server.requests();
        let copy = asked.iter().find(|request| request.method == "PUT").unwrap();
        assert_eq!(copy.header("x-ms-source-if-match"), Some("\"v\""));
        assert_eq!(copy.header("x-ms-copy-source"), Some(format!("{endpoint}/box/from").as_str()));
        assert_eq!(
            asked
                .iter()
                .filter(|request| request.method == "HEAD" && request.target.contains("/to"))
                .count(),
            4
        );
    });
}
