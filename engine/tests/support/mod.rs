//! A throwaway PostgreSQL server that listens on a socket and on a TCP port of
//! its own, for the tests of the connection.

#![allow(dead_code)]

#[path = "../../../cli/tests/common/postgres.rs"]
pub mod postgres;
#[path = "../../../cli/tests/common/scratch.rs"]
pub mod scratch;
#[path = "../../../cli/tests/common/user.rs"]
pub mod user;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::{client, installation};
use rustix::process::{Pid, Signal, kill_process};
pub use scratch::Scratch;
use walport_engine::settings::{Settings, Source, Table};

/// A server, stopped when dropped.
pub struct Server {
    pub major: u32,
    pub data: PathBuf,
    pub socket: PathBuf,
    pub port: u16,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// A new cluster with page checksums, not started.
    pub fn new(major: u32, scratch: &Scratch, name: &str) -> Self {
        let server = Self::at(major, scratch, name);
        let mut initdb = as_worker(&installation(major).bin.join("initdb"));
        initdb
            .args(["--no-sync", "--data-checksums", "--username=postgres", "--auth=trust"])
            .args(["--encoding=UTF8", "--locale=C", "-D"])
            .arg(&server.data);
        checked(&mut initdb);
        server.configure(
            "fsync = off\nshared_buffers = 16MB\nmax_connections = 20\nwal_level = replica\n\
             max_wal_senders = 4\nhot_standby = on\nwal_receiver_status_interval = 1s",
        );
        server
    }

    /// A standby of `primary`, not started.
    pub fn standby(primary: &Server, scratch: &Scratch, name: &str) -> Self {
        let standby = Self::at(primary.major, scratch, name);
        let mut copy = as_worker(&client("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--no-sync", "-X", "stream", "-R", "-U", "postgres"])
            .arg("-h")
            .arg(&primary.socket)
            .args(["-p", &primary.port.to_string(), "-D"])
            .arg(&standby.data);
        checked(&mut copy);
        standby
    }

    fn at(major: u32, scratch: &Scratch, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        Self {
            major,
            data: scratch.join(name),
            socket: scratch.folder(&format!("{name}.s")),
            port: listener.local_addr().expect("address").port(),
            log: scratch.join(format!("{name}.log")),
            process: None,
        }
    }

    /// Adds lines to postgresql.conf.
    pub fn configure(&self, lines: &str) {
        let path = self.data.join("postgresql.conf");
        let mut file = OpenOptions::new().append(true).open(path).expect("postgresql.conf");
        writeln!(file, "{lines}").expect("postgresql.conf");
    }

    /// Replaces pg_hba.conf; sockets are always trusted.
    pub fn allow(&self, lines: &str) {
        let text = format!("local all all trust\n{lines}\n");
        fs::write(self.data.join("pg_hba.conf"), text).expect("pg_hba.conf");
    }

    /// Starts the server and waits until it takes queries.
    pub fn start(&mut self) {
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700)).expect("chmod");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("log");
        let mut command = as_worker(&installation(self.major).bin.join("postgres"));
        command
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(&self.socket)
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=localhost"])
            .stdout(log.try_clone().expect("log"))
            .stderr(log);
        self.process = Some(command.spawn().expect("cannot start postgres"));
        wait_for("the start of the server", || {
            let process = self.process.as_mut().expect("process");
            if let Some(status) = process.try_wait().expect("wait") {
                self.process = None;
                panic!("the server ended: {status}\n{}", self.log());
            }
            let pid = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            matches!(pid.lines().nth(7).unwrap_or_default().trim(), "ready" | "standby")
        });
    }

    /// Ends a standby's recovery.
    pub fn promote(&self) {
        assert_eq!(self.sql("select pg_promote(true, 60)"), "t");
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs SQL as the superuser; rows by lines, columns by `|`.
    #[track_caller]
    pub fn sql(&self, text: &str) -> String {
        self.sql_in("postgres", text)
    }

    /// The same in a database.
    #[track_caller]
    pub fn sql_in(&self, database: &str, text: &str) -> String {
        let mut psql = as_worker(&client("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.socket)
            .args(["-p", &self.port.to_string(), "-d", database, "-c", text]);
        checked(&mut psql).trim_end().to_owned()
    }

    /// Settings for the socket, as the superuser, with more on top.
    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let mut all = vec![
            ("PGHOST", self.socket.to_str().expect("utf-8").to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", "postgres".to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
            ("PGPASSFILE", "/nonexistent".to_owned()),
        ];
        all.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
        settings(all.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// Settings for `localhost`, with more on top.
    pub fn tcp(&self, more: &[(&str, &str)]) -> Settings {
        let mut all = vec![("PGHOST", "localhost")];
        all.extend(more);
        self.settings(&all)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("pid");
            let _ = kill_process(pid, Signal::QUIT);
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- log of {}", self.data.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The settings of PostgreSQL with these values, as if from the environment.
pub fn settings<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    let table = Table::new(walport_engine::postgres::SETTINGS);
    let mut settings = Settings::new(Arc::new(table));
    for (name, value) in values {
        settings.set(name, value, Source::Environment(name.to_owned())).expect("setting");
    }
    settings
}

/// A command that runs as the user that PostgreSQL runs as.
pub fn as_worker(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    user::run_as_worker(&mut command);
    command
}

/// Runs a command, which must succeed; returns its stdout.
#[track_caller]
pub fn checked(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `ready` says so; fails loudly after three minutes.
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(180), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future as the program does: on one thread.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}
