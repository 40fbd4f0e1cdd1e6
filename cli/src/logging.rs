//! Log lines on stderr or in a file: WAL-G's form, or one JSON document a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Local, SecondsFormat};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;
use walport_engine::settings::Settings;
use walport_engine::{Error, Kind, Result};

static LOGGER: Logger = Logger(Mutex::new(State::new()));

struct Logger(Mutex<State>);

struct State {
    json: bool,
    prefix: &'static str,
    file: Option<File>,
    /// A progress line stands on the terminal and has no end yet.
    status: bool,
}

impl State {
    const fn new() -> Self {
        Self { json: false, prefix: "", file: None, status: false }
    }

    fn write(&mut self, line: &str) {
        // There is nowhere to tell that a log line could not be written.
        if let Some(file) = &mut self.file {
            drop(file.write_all(line.as_bytes()));
            return;
        }
        let clear = if self.status { CLEAR } else { "" };
        self.status = false;
        drop(io::stderr().write_all(format!("{clear}{line}").as_bytes()));
    }
}

/// To the first column, and everything after it away.
const CLEAR: &str = "\r\x1b[K";

fn state() -> std::sync::MutexGuard<'static, State> {
    LOGGER.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts to log, to stderr and at the level NORMAL, until there are settings.
pub fn start() {
    // It fails only if a logger is there already, as when `run` is called twice.
    drop(log::set_logger(&LOGGER));
    log::set_max_level(LevelFilter::Info);
}

/// Logs as the settings say. `prefix` stands before every message.
pub fn configure(settings: &Settings, prefix: &'static str) -> Result<()> {
    let file = match settings.text("WALG_LOG_DESTINATION") {
        None | Some("stderr") => None,
        Some(path) => Some(open(path)?),
    };
    *state() = State { json: json(settings), prefix, file, status: false };
    log::set_max_level(level(settings.text("WALG_LOG_LEVEL").unwrap_or_default()));
    Ok(())
}

/// Logs in the format that the settings say, still to stderr.
pub fn format(settings: &Settings) {
    state().json = json(settings);
}

fn json(settings: &Settings) -> bool {
    settings.text("WALPORT_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("json"))
}

fn level(name: &str) -> LevelFilter {
    match name.to_ascii_uppercase().as_str() {
        "DEVEL" => LevelFilter::Debug,
        "ERROR" => LevelFilter::Error,
        _ => LevelFilter::Info,
    }
}

fn open(path: &str) -> Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(|error| {
        Error::io(format!("cannot open the log file {path}"), error)
            .with_hint("Correct WALG_LOG_DESTINATION, or make its directory writable.")
    })
}

/// Checks, without a change, that the log file could be opened.
pub fn check(settings: &Settings) -> Result<()> {
    match settings.text("WALG_LOG_DESTINATION") {
        None | Some("stderr") => Ok(()),
        Some(path) => open(path).map(drop),
    }
}

/// Logs an error, and on a line of its own what the operator should do.
pub fn error(error: &Error) {
    if log::max_level() == LevelFilter::Off {
        return;
    }
    write(Level::Error, &error.to_string(), Some(error));
}

/// Logs something that is not an error yet.
pub fn warning(warning: &Error) {
    if log::max_level() >= Level::Warn {
        write(Level::Warn, &warning.to_string(), Some(warning));
    }
}

/// Shows `line` as the last line of the terminal until something else is
/// written; `None` removes it.
pub fn status(line: Option<&str>) {
    let mut state = state();
    let text = match line {
        Some(line) => format!("{CLEAR}{line}"),
        None if state.status => CLEAR.to_owned(),
        None => return,
    };
    state.status = line.is_some();
    drop(io::stderr().write_all(text.as_bytes()));
}

fn write(level: Level, message: &str, error: Option<&Error>) {
    let mut state = state();
    let now = Local::now();
    let line = if state.json {
        json_line(&now, level, state.prefix, message, error)
    } else {
        text_line(&now, level, state.prefix, message, error)
    };
    state.write(&line);
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

fn text_line(
    now: &DateTime<Local>,
    level: Level,
    prefix: &str,
    message: &str,
    error: Option<&Error>,
) -> String {
    let time = now.format("%Y/%m/%d %H:%M:%S%.6f");
    let hint =
        error.and_then(Error::hint).map(|hint| format!("HINT: {hint}\n")).unwrap_or_default();
    format!("{prefix}{}: {time} {message}\n{hint}", label(level))
}

fn json_line(
    now: &DateTime<Local>,
    level: Level,
    prefix: &str,
    message: &str,
    error: Option<&Error>,
) -> String {
    let mut line = json!({
        "time": now.to_rfc3339_opts(SecondsFormat::Micros, true),
        "level": label(level).to_lowercase(),
        "message": format!("{prefix}{message}"),
    });
    if let Some(error) = error {
        line["kind"] = kind(error.kind()).into();
        for (name, value) in
            [("operation", error.op()), ("key", error.key()), ("hint", error.hint())]
        {
            if let Some(value) = value {
                line[name] = value.into();
            }
        }
    }
    format!("{line}\n")
}

/// `NotFound` is `not_found`.
fn kind(kind: Kind) -> String {
    let mut snake = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries tell is of use to developers only, unless it warns.
        metadata.level() <= log::max_level()
            && (metadata.target().starts_with("walport")
                || metadata.level() <= Level::Warn
                || log::max_level() >= LevelFilter::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write(record.level(), &record.args().to_string(), None);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use chrono::TimeZone;

    fn time() -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 1, 2, 15, 4, 5).unwrap() + chrono::TimeDelta::microseconds(42)
    }

    #[test]
    fn lines_look_like_those_of_wal_g() {
        assert_eq!(
            text_line(&time(), Level::Warn, "", "careful", None),
            "WARNING: 2026/01/02 15:04:05.000042 careful\n"
        );
        let error = Error::new(Kind::NotFound, "no such object")
            .with_op("get")
            .with_key("a/b")
            .with_hint("Look again.");
        assert_eq!(
            text_line(&time(), Level::Error, "PREFETCH ", &error.to_string(), Some(&error)),
            "PREFETCH ERROR: 2026/01/02 15:04:05.000042 get a/b: no such object\nHINT: Look again.\n"
        );
    }

    #[test]
    fn json_lines_are_one_document_each() {
        let error = Error::new(Kind::NotFound, "two\nlines")
            .with_op("get")
            .with_key("a")
            .with_hint("Look again.");
        let line = json_line(&time(), Level::Error, "", &error.to_string(), Some(&error));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["message"], "get a: two\nlines");
        assert_eq!(value["kind"], "not_found");
        assert_eq!(value["hint"], "Look again.");
        assert!(value["time"].as_str().unwrap().starts_with("2026-01-02T15:04:05.000042"));
    }

    #[test]
    fn libraries_are_heard_when_they_warn() {
        let enabled = |level, target| {
            LOGGER.enabled(&Metadata::builder().level(level).target(target).build())
        };
        log::set_max_level(level("NORMAL"));
        assert!(enabled(Level::Info, "walport_engine::wal") && !enabled(Level::Debug, "walport"));
        assert!(!enabled(Level::Info, "hyper") && enabled(Level::Warn, "hyper"));
        log::set_max_level(level("devel"));
        assert!(enabled(Level::Debug, "hyper"));
        log::set_max_level(level("ERROR"));
        assert!(!enabled(Level::Warn, "walport") && enabled(Level::Error, "hyper"));
    }
}
