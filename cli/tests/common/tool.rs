//! A program under test: Walport, or a peer that speaks the same layout.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::{Scratch, user};

/// A program with its settings, in an environment of its own.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    settings: BTreeMap<String, String>,
    home: PathBuf,
    prlimit: Vec<String>,
    wrapper: Vec<String>,
}

/// What a run of a program gave.
pub struct Run {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: String,
    shown: String,
}

impl Run {
    /// Stdout as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is not UTF-8")
    }

    /// Fails the test unless the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails the test unless the program reported an error: a code that is not
    /// 0, no signal, no panic, and a word about it on stderr.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "{self}");
        assert!(!self.stderr.trim().is_empty(), "nothing on stderr\n{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        self
    }

    /// Fails the test unless stderr has this text, in any case.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let found = self.stderr.to_lowercase().contains(&text.to_lowercase());
        assert!(found, "stderr does not say {text:?}\n{self}");
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\nexit {:?}", self.shown, self.code)?;
        writeln!(f, "--- stdout\n{}", String::from_utf8_lossy(&self.stdout))?;
        write!(f, "--- stderr\n{}", self.stderr)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the walport to test is: `WALPORT_BIN`, or what cargo built. A copy is
/// made where the worker could not reach it.
fn walport() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = std::env::var_os("WALPORT_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_walport")), PathBuf::from);
        if !user::is_root() || user::reachable_by_all(&built) {
            return built;
        }
        let shared =
            std::env::temp_dir().join(format!("walport-under-test-{}", std::process::id()));
        fs::copy(&built, &shared).expect("copy of walport");
        shared
    })
}

/// The real wal-g that `WALG_BIN` names, for the tests across tools.
pub fn walg() -> Option<PathBuf> {
    std::env::var_os("WALG_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Tool {
    /// Walport, without any setting.
    pub fn walport(scratch: &Scratch) -> Self {
        Self::at(walport().to_owned(), scratch)
    }

    /// Another program.
    pub fn at(program: PathBuf, scratch: &Scratch) -> Self {
        Self {
            program,
            settings: BTreeMap::new(),
            home: scratch.folder("home"),
            prlimit: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// With a setting.
    pub fn with(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().expect("utf-8").to_owned();
        self.settings.insert(name.to_owned(), value);
        self
    }

    /// Without a setting.
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Under a limit of prlimit(1): `--as=100663296`.
    pub fn limited(mut self, limit: &str) -> Self {
        self.prlimit.push(limit.to_owned());
        self
    }

    /// Under another program, which gets ours and its arguments.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Where its home is.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The command that runs it, with nothing of our environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        if !self.prlimit.is_empty() {
            words.push("prlimit");
            words.extend(self.prlimit.iter().map(String::as_str));
            words.push("--");
        }
        words.push(self.program.to_str().expect("utf-8"));
        words.extend(arguments);
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("RUST_BACKTRACE", "0")
            .envs(&self.settings)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        user::run_as_worker(&mut command);
        command
    }

    /// Runs it to the end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().expect("cannot run the program under test");
        Run {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            shown: format!("{} {}", self.program.display(), arguments.join(" ")),
        }
    }

    /// Starts it, its output kept from ours.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start the program under test")
    }

    /// The command line of a shell that runs it with the same settings, for
    /// `archive_command` and `restore_command`. The settings go into a file.
    pub fn shell(&self, scratch: &Scratch, arguments: &str) -> String {
        let name = format!("settings-{:x}.json", fastrand::u64(..));
        let settings = serde_json::to_string_pretty(&self.settings).expect("json");
        let file = scratch.file(&name, settings);
        format!("\"{}\" --config \"{}\" {arguments}", self.program.display(), file.display())
    }
}
