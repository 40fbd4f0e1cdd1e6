//! Servers on loopback, stopped by process id when they are dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
    /// The root for targets, as the server sees it.
    pub root: String,
    /// How to log in.
    pub login: Vec<(&'static str, String)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// The target of an empty root.
    pub fn target(&self, port: u16) -> String {
        format!("ssh://127.0.0.1:{port}{}", self.root)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16, child: &mut Child, what: &str) {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{what} ended with {status}; tests/setup installs it");
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn must_run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/setup installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a key pair and gives the path of the private key.
pub fn key(folder: &Path, name: &str, kind: &str) -> PathBuf {
    let path = folder.join(name);
    must_run(
        Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "test", "-t", kind, "-f"])
            .arg(&path),
    );
    path
}

/// Writes what `ssh-keyscan` finds on the port, for the address 127.0.0.1.
pub fn known_hosts(folder: &Path, port: u16, key: &Path) -> PathBuf {
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let path = folder.join(format!("known_hosts_{port}"));
    let key: Vec<_> = public.split(' ').take(2).collect();
    fs::write(&path, format!("[127.0.0.1]:{port} {}\n", key.join(" "))).unwrap();
    path
}

/// OpenSSH's server; it lets the key in `login` in.
pub fn openssh(kind: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (host, user) = (key(folder.path(), "host", "ed25519"), key(folder.path(), "user", kind));
    fs::copy(user.with_extension("pub"), at("authorized_keys")).unwrap();
    // Only as root is there a directory that sshd insists on.
    let _ = fs::create_dir_all("/run/sshd");
    let port = free_port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n",
        host.display(),
        at("authorized_keys").display()
    );
    fs::write(at("sshd_config"), config).unwrap();
    fs::create_dir(at("root")).unwrap();
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(at("sshd_config"))
        .stderr(Stdio::from(fs::File::create(at("log")).unwrap()))
        .spawn()
        .expect("sshd is missing; tests/setup installs it");
    wait_for(port, &mut child, "sshd");
    let login = vec![
        ("SSH_USERNAME", whoami()),
        ("SSH_PRIVATE_KEY_PATH", user.display().to_string()),
        ("WALPORT_SSH_KNOWN_HOSTS", known_hosts(folder.path(), port, &host).display().to_string()),
    ];
    Server { child, port, root: at("root").display().to_string(), folder, login }
}

/// rclone's server; it lets a password in.
pub fn rclone() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let host = key(folder.path(), "host", "ed25519");
    fs::create_dir_all(at("served/root")).unwrap();
    let port = free_port();
    let mut child = Command::new("rclone")
        .args(["serve", "sftp", "--user", "walport", "--pass", "open sesame", "--addr"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--key")
        .arg(&host)
        .args([
            "--vfs-cache-mode",
            "writes",
            "--dir-cache-time",
            "0s",
            "--poll-interval",
            "0s",
            "--vfs-write-back",
            "0s",
            "--config",
            "/dev/null",
        ])
        .arg("--cache-dir")
        .arg(at("cache"))
        .arg(at("served"))
        .stdout(Stdio::null())
        .stderr(Stdio::from(fs::File::create(at("log")).unwrap()))
        .spawn()
        .expect("rclone is missing; tests/setup installs it");
    wait_for(port, &mut child, "rclone");
    let login = vec![
        ("SSH_USERNAME", "walport".to_owned()),
        ("SSH_PASSWORD", "open sesame".to_owned()),
        ("WALPORT_SSH_KNOWN_HOSTS", known_hosts(folder.path(), port, &host).display().to_string()),
    ];
    Server { child, port, root: "/root".to_owned(), folder, login }
}

fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Borrowed settings of a login.
pub fn borrowed<'a>(login: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    login.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
