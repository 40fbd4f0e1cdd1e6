//! Servers that are not ours.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;

/// A running server with the buckets `bucket` and `bkt`. It ends when it is dropped.
pub struct Server {
    pub endpoint: String,
    _data: TempDir,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// s3s-fs in this process; it checks signatures.
pub fn s3s() -> Server {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("bucket")).unwrap();
    std::fs::create_dir(data.path().join("bkt")).unwrap();
    let root = data.path().to_owned();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(root, sender));
    });
    let address: SocketAddr = receiver.recv().unwrap();
    Server { endpoint: format!("http://{address}"), _data: data, child: None }
}

async fn serve(root: PathBuf, ready: mpsc::Sender<SocketAddr>) {
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("walport", "walport-secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    ready.send(listener.local_addr().unwrap()).unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let service = service.clone();
        tokio::spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// The program versitygw, which `tests/setup` installs.
pub fn versitygw() -> Server {
    gateway(None)
}

/// The same behind TLS; the certificate of its authority is `ca.pem` in `folder`.
pub fn versitygw_with_tls(folder: &Path) -> Server {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    gateway(Some(folder))
}

fn gateway(tls: Option<&Path>) -> Server {
    let repository = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut caches = vec![repository.join(".test"), "/var/cache/walport-test".into()];
    if let Some(cache) = std::env::var_os("WALPORT_TEST_CACHE") {
        caches.insert(0, cache.into());
    }
    let program = caches
        .iter()
        .map(|cache| cache.join("versitygw/versitygw"))
        .find(|program| program.exists());
    let program = program.expect("versitygw is missing: run tests/setup");
    let data = tempfile::tempdir().unwrap();
    for bucket in ["bucket", "bkt"] {
        std::fs::create_dir_all(data.path().join("gateway").join(bucket)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.args(["--port", &address, "--quiet"]);
    if let Some(folder) = tls {
        command
            .arg("--cert")
            .arg(folder.join("server.pem"))
            .arg("--key")
            .arg(folder.join("server.key"));
    }
    let child = command
        .arg("posix")
        .arg(data.path().join("gateway"))
        .env("ROOT_ACCESS_KEY", "walport")
        .env("ROOT_SECRET_KEY", "walport-secret")
        .current_dir(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server =
        Server { endpoint: format!("{scheme}://{address}"), _data: data, child: Some(child) };
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "versitygw does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}
