//! `backup-fetch`: restores a base backup.

use std::path::PathBuf;

use walport_engine::backup::fetch::{FetchOptions, Selector, fetch};
use walport_engine::memory::Operation;
use walport_engine::settings::Settings;
use walport_engine::{Error, Kind, Result};

use crate::program::{Outcome, Program};

/// The arguments of `backup-fetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to; must be empty or absent
    destination_directory: PathBuf,
    /// The name of the backup, or LATEST
    backup_name: Option<String>,
    /// Choose the backup by its user data
    #[arg(long, value_name = "JSON")]
    target_user_data: Option<String>,
    /// Only files whose path matches this pattern
    #[arg(long, value_name = "GLOB")]
    mask: Option<String>,
    /// A file with a tablespace map in JSON
    #[arg(long, value_name = "FILE")]
    restore_spec: Option<PathBuf>,
    /// A new place for a tablespace; may be given for each
    #[arg(long, value_name = "OID=PATH", value_parser = tablespace, conflicts_with = "restore_spec")]
    tablespace_map: Vec<(String, PathBuf)>,
    /// Restore the newest delta first
    #[arg(long)]
    reverse_unpack: bool,
    /// Skip parts that later deltas replace
    #[arg(long)]
    skip_redundant_tars: bool,
    /// Only these databases or tables
    #[arg(long, value_name = "LIST")]
    restore_only: Option<String>,
    /// Fetch from this storage only
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Restores the backup.
pub fn run(args: Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    let options = options(args, &program.settings)?;
    program.job(Operation::BackupFetch, async |context| fetch(context, options).await)?;
    Ok(Outcome::Done)
}

fn options(args: Args, settings: &Settings) -> Result<FetchOptions> {
    if args.restore_only.is_some() {
        return Err(Error::new(Kind::Unsupported, "a part of a backup cannot be restored yet")
            .with_hint("Restore all of it, without --restore-only."));
    }
    let flagged = args.target_user_data.is_some();
    let user_data = args.target_user_data.or_else(|| {
        // The setting is a default, so a name on the command line is stronger.
        settings
            .text("WALG_FETCH_TARGET_USER_DATA")
            .filter(|_| args.backup_name.is_none())
            .map(str::to_owned)
    });
    let backup = match (args.backup_name, user_data) {
        (Some(_), Some(_)) if flagged => {
            return Err(Error::new(
                Kind::Invalid,
                "a backup is chosen by name or by user data, not by both",
            )
            .with_hint("Give a name, LATEST, or --target-user-data."));
        }
        (Some(name), _) if name == "LATEST" => Selector::Latest,
        (Some(name), _) => Selector::Name(name),
        (None, Some(json)) => {
            super::check_json("--target-user-data", &json)?;
            Selector::UserData(json)
        }
        (None, None) => {
            return Err(Error::new(Kind::Invalid, "no backup was chosen").with_hint(
                "Usage: walport backup-fetch DESTINATION NAME, where NAME may be LATEST; or --target-user-data JSON.",
            ));
        }
    };
    Ok(FetchOptions {
        backup,
        destination: args.destination_directory,
        mask: args.mask,
        restore_spec: args.restore_spec,
        tablespace_map: args.tablespace_map,
    })
}

/// `16385=/srv/fast`.
fn tablespace(text: &str) -> Result<(String, PathBuf), String> {
    let wrong = || {
        "an OID, an equals sign and an absolute path are expected, as in 16385=/srv/fast".to_owned()
    };
    let (oid, path) = text.split_once('=').ok_or_else(wrong)?;
    let path = PathBuf::from(path);
    if oid.parse::<u32>().is_err() || !path.is_absolute() {
        return Err(wrong());
    }
    Ok((oid.to_owned(), path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::args::Cli;
    use crate::command::Command;
    use clap::Parser;
    use std::sync::Arc;
    use walport_engine::settings::{SETTINGS, Settings, Source, Table};

    fn args(line: &str) -> Args {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Some(Command::BackupFetch(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn settings() -> Settings {
        Settings::new(Arc::new(Table::new(SETTINGS)))
    }

    #[test]
    fn every_tablespace_map_counts() {
        let args =
            args("walport backup-fetch /d LATEST --tablespace-map 1=/a --tablespace-map 2=/b=c");
        assert_eq!(
            args.tablespace_map,
            [("1".to_owned(), "/a".into()), ("2".to_owned(), "/b=c".into())]
        );
        for wrong in ["1", "1=a", "x=/a", "=/a"] {
            assert!(tablespace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn exactly_one_way_to_choose_a_backup() {
        let choose = |line: &str, settings: &Settings| {
            options(args(line), settings).map(|options| options.backup)
        };
        let mut settings = settings();
        assert_eq!(choose("walport backup-fetch /d LATEST", &settings).unwrap(), Selector::Latest);
        assert_eq!(
            choose("walport backup-fetch /d base_1", &settings).unwrap(),
            Selector::Name("base_1".to_owned())
        );
        let json = || Selector::UserData("1".to_owned());
        assert_eq!(
            choose("walport backup-fetch /d --target-user-data 1", &settings).unwrap(),
            json()
        );
        assert_eq!(choose("walport backup-fetch /d", &settings).unwrap_err().kind(), Kind::Invalid);
        assert!(choose("walport backup-fetch /d base_1 --target-user-data 1", &settings).is_err());
        assert!(choose("walport backup-fetch /d --target-user-data {", &settings).is_err());
        settings
            .set("WALG_FETCH_TARGET_USER_DATA", "1", Source::Environment(String::new()))
            .unwrap();
        assert_eq!(choose("walport backup-fetch /d", &settings).unwrap(), json());
        assert_eq!(choose("walport backup-fetch /d LATEST", &settings).unwrap(), Selector::Latest);
    }
}
