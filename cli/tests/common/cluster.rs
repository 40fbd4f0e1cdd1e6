//! A throwaway PostgreSQL cluster.
//!
//! It listens on a Unix socket in its scratch folder and nowhere else, so any
//! number of them run side by side on the same port number.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::postgres::{Installation, client, installation};
use super::{Scratch, Tool, pages, user, wait_for};

const PORT: &str = "5432";

/// A data directory, and its server when it runs.
#[derive(Debug)]
pub struct Cluster {
    installation: &'static Installation,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    home: PathBuf,
    server: Option<Child>,
}

/// How a restored cluster recovers.
#[derive(Debug, Default)]
pub struct Recovery<'a> {
    /// The command that fetches WAL.
    pub restore_command: String,
    /// Where to stop: `recovery_target_time = '...'` and the like, one a line.
    pub target: &'a str,
}

impl Cluster {
    /// A new cluster with page checksums, not started.
    pub fn new(major: u32, scratch: &Scratch, name: &str) -> Self {
        Self::with_options(major, scratch, name, &[])
    }

    /// The same with more options for initdb.
    pub fn with_options(major: u32, scratch: &Scratch, name: &str, options: &[&str]) -> Self {
        let cluster = Self::at(major, scratch, name, scratch.join(name));
        let mut initdb = cluster.program("initdb");
        initdb
            .args(["--no-sync", "--data-checksums", "--username=postgres", "--auth=trust"])
            .args(["--encoding=UTF8", "--locale=C"])
            .args(options)
            .arg("-D")
            .arg(&cluster.data);
        checked(&mut initdb);
        cluster.configure(
            "fsync = off\nshared_buffers = 16MB\nmax_connections = 30\nlog_line_prefix = '%m [%p] '\n\
             wal_level = replica\nmax_wal_size = 256MB\ntimezone = 'UTC'",
        );
        cluster
    }

    /// A data directory that was restored to `data`, not started.
    pub fn restored(major: u32, scratch: &Scratch, data: &Path, recovery: &Recovery<'_>) -> Self {
        let name = data.file_name().expect("name").to_str().expect("utf-8");
        let cluster = Self::at(major, scratch, name, data.to_owned());
        if !recovery.restore_command.is_empty() {
            // Without a hot standby, "ready" means that recovery has ended.
            cluster.configure(&format!(
                "hot_standby = off\nrestore_command = '{}'\n{}\nrecovery_target_action = 'promote'",
                recovery.restore_command, recovery.target
            ));
            fs::write(data.join("recovery.signal"), "").expect("recovery.signal");
            user::give(&data.join("recovery.signal"));
        }
        cluster
    }

    fn at(major: u32, scratch: &Scratch, name: &str, data: PathBuf) -> Self {
        Self {
            installation: installation(major),
            data,
            socket: scratch.folder(&format!("{name}.s")),
            log: scratch.join(format!("{name}.log")),
            home: scratch.folder("home"),
            server: None,
        }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// 14 for 14.23.
    pub fn major(&self) -> u32 {
        self.installation.major
    }

    /// The folder of its socket: `PGHOST`.
    pub fn host(&self) -> &Path {
        &self.socket
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Adds lines to postgresql.conf.
    pub fn configure(&self, lines: &str) {
        let path = self.data.join("postgresql.conf");
        let mut file = OpenOptions::new().append(true).open(path).expect("postgresql.conf");
        writeln!(file, "{lines}").expect("postgresql.conf");
    }

    /// Archives with this tool from the next start on.
    pub fn archive_with(&self, tool: &Tool, scratch: &Scratch) {
        let command = tool.shell(scratch, "wal-push \"%p\"");
        self.configure(&format!("archive_mode = on\narchive_command = '{command}'"));
    }

    /// The tool, connecting to this cluster.
    pub fn connect(&self, tool: Tool) -> Tool {
        tool.with("PGHOST", &self.socket)
            .with("PGPORT", PORT)
            .with("PGUSER", "postgres")
            .with("PGDATABASE", "postgres")
            .with("PGDATA", &self.data)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("PGHOST", &self.socket)
            .env("PGPORT", PORT)
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .current_dir(&self.home)
            .stdin(Stdio::null());
        user::run_as_worker(&mut command);
        command
    }

    /// A command of the cluster's own installation.
    pub fn program(&self, name: &str) -> Command {
        self.command(&self.installation.bin.join(name))
    }

    /// A command of the newest client programs, which any server understands.
    pub fn client(&self, name: &str) -> Command {
        self.command(&client(name))
    }

    /// Starts the server and waits until it takes writes: for a restored
    /// cluster, until recovery has ended.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        wait_for("the start of the server", Duration::from_secs(180), || {
            self.assert_alive();
            self.status() == "ready"
        });
    }

    /// Starts the server, which is expected to give up, and returns its log.
    #[track_caller]
    pub fn start_in_vain(&mut self) -> String {
        self.launch();
        let server = self.server.as_mut().expect("server");
        wait_for("the end of the server", Duration::from_secs(120), || {
            server.try_wait().expect("wait").is_some()
        });
        self.server = None;
        self.log()
    }

    fn launch(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        // A restored directory may carry its mode from a store that has none.
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700)).expect("chmod");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("log");
        let mut postgres = self.program("postgres");
        postgres
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(&self.socket)
            .args(["-p", PORT, "-c", "listen_addresses="])
            .stdout(log.try_clone().expect("log"))
            .stderr(log);
        self.server = Some(postgres.spawn().expect("cannot start postgres"));
    }

    #[track_caller]
    fn assert_alive(&mut self) {
        let server = self.server.as_mut().expect("server");
        if let Some(status) = server.try_wait().expect("wait") {
            self.server = None;
            panic!("the server ended: {status}\n{}", self.log());
        }
    }

    /// The last line of postmaster.pid: `starting`, `standby`, `ready`.
    fn status(&self) -> String {
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        pid.lines().nth(7).unwrap_or_default().trim().to_owned()
    }

    /// Stops the server in order, archiving what is left.
    pub fn stop(&mut self) {
        self.signal(Signal::INT);
    }

    /// Stops the server as a power failure would.
    pub fn crash(&mut self) {
        self.signal(Signal::QUIT);
    }

    fn signal(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("pid");
        let _ = kill_process(pid, signal);
        server.wait().expect("wait");
    }

    /// Runs SQL; returns rows by lines, columns by `|`.
    #[track_caller]
    pub fn sql(&self, text: &str) -> String {
        self.sql_in("postgres", text)
    }

    /// The same in a database.
    #[track_caller]
    pub fn sql_in(&self, database: &str, text: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]);
        checked(&mut psql).trim_end().to_owned()
    }

    /// Creates the tables of pgbench.
    pub fn pgbench_init(&self, scale: u32) {
        checked(self.client("pgbench").args(["-i", "-q", "-s", &scale.to_string()]));
    }

    /// Starts pgbench, which writes until [`Load::end`].
    pub fn pgbench(&self) -> Load {
        let child = self
            .client("pgbench")
            .args(["-n", "-c", "2", "-T", "3600"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench");
        Load(child)
    }

    /// Ends the current segment and waits until everything up to it is archived.
    pub fn switch_wal(&self) {
        let segment = self.sql(
            "select pg_logical_emit_message(true, 'test', 'switch'); \
             select pg_walfile_name(pg_switch_wal())",
        );
        let segment = segment.lines().last().expect("segment").to_owned();
        wait_for(&format!("archiving of {segment}"), Duration::from_secs(60), || {
            self.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver") >= segment
        });
    }

    /// Fails the test unless every table and index of every database is sound:
    /// pg_amcheck with the heap compared to its indexes.
    #[track_caller]
    pub fn assert_sound(&self) {
        let mut amcheck = self.client("pg_amcheck");
        amcheck.args(["--all", "--install-missing", "--heapallindexed", "--rootdescend"]);
        checked(&mut amcheck);
    }

    /// Fails the test unless every page of the stopped cluster has the right
    /// checksum: by pg_checksums where the installation has one, and always by
    /// our own reading.
    #[track_caller]
    pub fn assert_checksums(&self) {
        assert!(self.server.is_none(), "the server must be stopped");
        let checksums = self.installation.bin.join("pg_checksums");
        if checksums.is_file() {
            let mut command = self.command(&checksums);
            checked(command.args(["--check", "-D"]).arg(&self.data));
        }
        let pages = pages::verify(&self.data);
        assert!(pages > 100, "only {pages} pages in {}", self.data.display());
    }
}

/// A pgbench that is running.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Ends it; it must have been running until now.
    #[track_caller]
    pub fn end(mut self) {
        assert!(self.0.try_wait().expect("wait").is_none(), "the load ended by itself");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.crash();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- log of {}", self.data.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
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
