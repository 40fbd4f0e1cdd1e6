//! The command line: WAL-G's grammar, with clap for the commands and the
//! settings table for the settings, each of which is a flag, too.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use walport_engine::settings::{Table, name_of_flag};
use walport_engine::{Error, Kind, Result};

use crate::command::Command;

/// Storage-agnostic backups of PostgreSQL in the WAL-G layout.
#[derive(Debug, Parser)]
#[command(
    name = "walport",
    args_override_self = true,
    disable_version_flag = true,
    subcommand_required = false,
    arg_required_else_help = false,
    after_help = "Every setting is also a flag: WALG_UPLOAD_CONCURRENCY is --walg-upload-concurrency. `walport flags` lists them all."
)]
pub struct Cli {
    /// Read settings from this file instead of ~/.walg.json, .toml, .yaml, .yml, .dotenv or .env
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Ignore the limits on disk and network rates
    #[arg(long, global = true)]
    pub turbo: bool,
    /// End with 1 for a missing WAL file and with 128 or more for every other failure
    #[arg(long, global = true)]
    pub strict_exit_codes: bool,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    pub version: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command line, taken apart.
#[derive(Debug)]
pub struct Parsed {
    /// What clap understood.
    pub cli: Cli,
    /// Settings given as flags: the flag and its value.
    pub flags: Vec<(String, String)>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Stop {
    /// Help was asked for; or the command line is wrong.
    Clap(clap::Error),
    /// A setting's flag is wrong.
    Error(Error),
}

/// Takes a command line apart; the first argument is the program's name.
pub fn parse(table: &Table, arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Stop> {
    let (arguments, flags) = split_settings(table, arguments).map_err(Stop::Error)?;
    let arguments = plain_switches(arguments);
    let cli = Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(Stop::Clap)?;
    Ok(Parsed { cli, flags })
}

type Flags = Vec<(String, String)>;

/// Takes the settings out of `arguments`: `--walg-s3-prefix VALUE` and
/// `--walg-s3-prefix=VALUE`, anywhere before `--`. This costs one look into the
/// table for each flag, where clap would build an argument for each setting.
fn split_settings(
    table: &Table,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Vec<OsString>, Flags)> {
    let mut rest = Vec::new();
    let mut flags = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument);
            rest.extend(arguments);
            break;
        }
        let text = argument.to_str().filter(|text| text.starts_with("--")).unwrap_or_default();
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (text, None),
        };
        // A flag is lower case, as in WAL-G.
        if flag.is_empty()
            || flag.chars().any(|c| c.is_ascii_uppercase() || c == '_')
            || table.find_exact(&name_of_flag(flag)).is_none()
        {
            rest.push(argument);
            continue;
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None => arguments
                .next()
                .ok_or_else(|| Error::new(Kind::Invalid, format!("{flag} needs a value")))?
                .into_string()
                .map_err(|_| {
                    Error::new(Kind::Invalid, format!("the value of {flag} is not UTF-8 text"))
                })?,
        };
        flags.push((flag.to_owned(), value));
    }
    Ok((rest, flags))
}

/// `--pretty=true` is `--pretty`, and `--pretty=false` is nothing, for every
/// switch: WAL-G's parser knows these forms and clap does not.
fn plain_switches(arguments: Vec<OsString>) -> Vec<OsString> {
    let value = |argument: &OsString| {
        let text = argument.to_str()?.strip_prefix("--")?;
        let (name, value) = text.split_once('=')?;
        let value = match value {
            "true" | "t" | "T" | "1" | "True" | "TRUE" => true,
            "false" | "f" | "F" | "0" | "False" | "FALSE" => false,
            _ => return None,
        };
        Some((name.to_owned(), value))
    };
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    if !arguments[..end].iter().any(|argument| value(argument).is_some()) {
        return arguments;
    }
    let root = Cli::command();
    let switches = switches(&root);
    let mut plain = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.into_iter().enumerate() {
        match value(&argument).filter(|(name, _)| index < end && switches.contains(name)) {
            Some((name, true)) => plain.push(format!("--{name}").into()),
            Some((_, false)) => {}
            None => plain.push(argument),
        }
    }
    plain
}

/// The long names of all switches of a command and of those below it.
fn switches(command: &clap::Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue))
        .filter_map(|argument| argument.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(switches)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn table() -> Table {
        Table::new(walport_engine::settings::SETTINGS)
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn split(line: &str) -> (String, Flags) {
        let (rest, flags) = split_settings(&table(), words(line)).unwrap();
        (rest.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "), flags)
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_are_flags_anywhere_before_the_double_dash() {
        let line = "walport --walg-log-level DEVEL backup-list --walg-compression-method=zstd --pretty -- --walg-log-level X";
        let (rest, flags) = split(line);
        assert_eq!(rest, "walport backup-list --pretty -- --walg-log-level X");
        let flags: Vec<_> =
            flags.iter().map(|(flag, value)| (flag.as_str(), value.as_str())).collect();
        assert_eq!(flags, [("--walg-log-level", "DEVEL"), ("--walg-compression-method", "zstd")]);
        assert!(split_settings(&table(), words("walport wal-push --walg-log-level")).is_err());
        let untouched = "walport --WALG-LOG-LEVEL x --walg_log_level x --unknown y -p -";
        assert_eq!(split(untouched), (untouched.to_owned(), Vec::new()));
    }

    #[test]
    fn switches_take_a_value_after_an_equals_sign() {
        let plain = |line: &str| plain_switches(words(line));
        assert_eq!(
            plain(
                "walport backup-push --full=true --permanent=false --add-user-data=true -- --full=false"
            ),
            words("walport backup-push --full --add-user-data=true -- --full=false")
        );
        assert_eq!(plain("walport --turbo=0 wal-push x"), words("walport wal-push x"));
    }

    #[test]
    fn v_is_the_version_at_the_root_and_verify_below() {
        let parsed = parse(&table(), words("walport -v")).unwrap();
        assert!(parsed.cli.version);
        let Some(Command::BackupPush(args)) =
            parse(&table(), words("walport backup-push -fpv /data")).unwrap().cli.command
        else {
            panic!("backup-push")
        };
        assert!(args.verify && args.full && args.permanent);
    }

    #[test]
    fn flags_stand_anywhere_and_may_be_repeated_but_not_abbreviated() {
        assert!(
            parse(&table(), words("walport wal-fetch --config c NAME --turbo DST --turbo")).is_ok()
        );
        assert!(parse(&table(), words("walport backup-list --pre")).is_err());
        assert!(parse(&table(), words("walport backup-list --no-such-flag x")).is_err());
        assert!(parse(&table(), words("walport wal-push")).is_err());
        assert!(parse(&table(), words("walport no-such-command")).is_err());
    }
}
