//! What the tests of several stores share: installed servers, settings, data.
#![allow(dead_code)] // each test uses a part of it

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use walport_conformance::fault::{Faults, Proxy};
use walport_engine::memory::Budget;
use walport_engine::settings::{Settings, Source, Table};
use walport_engine::storage::{Backend, Body, Open, Result, Store};

/// A file that `tests/setup` installs. Without it the test fails: a test that
/// did not run has not passed.
pub fn installed(path: &str) -> PathBuf {
    let mut caches = vec![
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.test")),
        "/var/cache/walport-test".into(),
    ];
    if let Some(cache) = std::env::var_os("WALPORT_TEST_CACHE") {
        caches.insert(0, cache.into());
    }
    let found = caches.iter().map(|cache| cache.join(path)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{path} is in none of {caches:?}: run tests/setup"))
}

/// A program that serves on loopback. It ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts the program that `command` makes for a port and an empty folder,
    /// and waits until it listens.
    pub fn start(command: impl FnOnce(u16, &std::path::Path) -> Command) -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let mut child = command(port, data.path())
            .current_dir(data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let said = || std::fs::read_to_string(data.path().join("log")).unwrap_or_default();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", said());
            }
            if began.elapsed() > Duration::from_secs(120) {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server does not listen on port {port}: {}", said());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { address, child, _data: data }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy in front of `server` that fails when it is told to, on a thread of
/// its own for as long as the test runs.
pub fn proxy(server: SocketAddr) -> (SocketAddr, Faults) {
    let faults = Faults::new();
    let switch = faults.clone();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let proxy = Proxy::start(server, switch).await.unwrap();
            sender.send(proxy.addr()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    (receiver.recv().unwrap(), faults)
}

/// Runs a test on a runtime of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Opens a store with these settings and a budget of 64 MiB.
pub async fn open(
    backend: &Backend,
    target: &str,
    values: &[(&str, &str)],
    retries: u32,
) -> Result<Store> {
    let mut settings = Settings::new(Arc::new(Table::new(backend.settings)));
    for (name, value) in values {
        settings.set(name, value, Source::Flag((*name).to_owned()))?;
    }
    let budget = Budget::new(64 << 20);
    (backend.open)(Open { target, settings: &settings, budget: &budget, retries }).await
}

/// Bytes that do not compress, the same for each size.
pub fn bytes(size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut data = vec![0; size];
    random.fill(&mut data);
    data.into()
}

/// A body of unknown size in chunks that do not fit parts evenly.
pub fn streamed(data: &Bytes) -> Body {
    let mut rest = data.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        chunks.push(Ok(rest.split_to(rest.len().min(200_003))));
    }
    Body::stream(None, stream::iter(chunks).boxed())
}
