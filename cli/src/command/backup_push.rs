//! `backup-push`: takes a base backup.

use std::path::PathBuf;

use walport_engine::backup::push::{Composer, PushOptions, push};
use walport_engine::memory::Operation;
use walport_engine::settings::Settings;
use walport_engine::{Error, Kind, Result};

use crate::program::{Outcome, Program};

/// The arguments of `backup-push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the server; without it the backup comes over the replication protocol
    db_directory: Option<PathBuf>,
    /// Take a full backup even if deltas are configured
    #[arg(short, long)]
    pub full: bool,
    /// Keep it until it is marked impermanent
    #[arg(short, long)]
    pub permanent: bool,
    /// Check the checksum of every page
    #[arg(short, long)]
    pub verify: bool,
    /// Keep the number of every corrupt block, not only of the first ten of a file
    #[arg(short, long)]
    store_all_corrupt: bool,
    /// The name of the backup a delta is based on, or LATEST
    #[arg(long, value_name = "NAME")]
    delta_from_name: Option<String>,
    /// The user data of the backup a delta is based on
    #[arg(long, value_name = "JSON", conflicts_with = "delta_from_name")]
    delta_from_user_data: Option<String>,
    /// A JSON document to store with the backup
    #[arg(long, value_name = "JSON")]
    add_user_data: Option<String>,
    /// Group files by how often they are updated
    #[arg(short, long)]
    rating_composer: bool,
    /// Take over unchanged parts of the previous full backup
    #[arg(short, long)]
    copy_composer: bool,
    /// Begin a new part for each database
    #[arg(short = 'b', long)]
    database_composer: bool,
    /// Do not store the list of files
    #[arg(long)]
    without_files_metadata: bool,
    /// Push to this storage only
    #[arg(long, value_name = "NAME")]
    target_storage: Option<String>,
}

/// Takes the backup.
pub fn run(args: Args, program: &mut Program) -> Result<Outcome> {
    program.target(args.target_storage.as_deref())?;
    let options = options(args, &program.settings)?;
    program.job(Operation::BackupPush, async |context| push(context, options).await)?;
    Ok(Outcome::Done)
}

/// Flags, and where they are not given the settings behind them.
fn options(args: Args, settings: &Settings) -> Result<PushOptions> {
    let directory = args.db_directory.ok_or_else(|| {
        Error::new(Kind::Unsupported, "a backup over the replication protocol cannot be taken yet")
            .with_hint("Give the data directory: walport backup-push $PGDATA.")
    })?;
    let switch = |flag: bool, setting: &str| flag || settings.flag(setting);
    let copy = switch(args.copy_composer, "WALG_USE_COPY_COMPOSER");
    let composer = if copy || switch(args.database_composer, "WALG_USE_DATABASE_COMPOSER") {
        Composer::Database
    } else if switch(args.rating_composer, "WALG_USE_RATING_COMPOSER") {
        Composer::Rating
    } else {
        Composer::Regular
    };
    let without_files_metadata = switch(args.without_files_metadata, "WALG_WITHOUT_FILES_METADATA");
    let based = args.delta_from_name.is_some()
        || args.delta_from_user_data.is_some()
        || settings.is_set("WALG_DELTA_FROM_NAME")
        || settings.is_set("WALG_DELTA_FROM_USER_DATA");
    if without_files_metadata && (composer != Composer::Regular || based) {
        return Err(Error::new(
            Kind::Invalid,
            "a backup without the list of files can have no composer and no base of a delta",
        )
        .with_hint("Leave out --without-files-metadata, or the other flag or setting."));
    }
    if copy {
        return Err(Error::new(Kind::Unsupported, "the copy composer cannot be used yet")
            .with_hint("Leave out --copy-composer and WALG_USE_COPY_COMPOSER."));
    }
    let deltas = settings.number("WALG_DELTA_MAX_STEPS").unwrap_or(0) > 0;
    if based && !args.full {
        return Err(Error::new(Kind::Unsupported, "a delta backup cannot be taken yet")
            .with_hint("Add --full, or leave out the base of the delta."));
    }
    if deltas && !args.full {
        log::warn!("Delta backups cannot be taken yet: this backup will be full");
    }
    let user_data =
        args.add_user_data.or_else(|| settings.text("WALG_SENTINEL_USER_DATA").map(str::to_owned));
    if let Some(text) = &user_data {
        super::check_json("--add-user-data", text)?;
    }
    Ok(PushOptions {
        directory,
        permanent: args.permanent,
        verify: switch(args.verify, "WALG_VERIFY_PAGE_CHECKSUMS"),
        store_all_corrupt: switch(args.store_all_corrupt, "WALG_STORE_ALL_CORRUPT_BLOCKS"),
        composer,
        without_files_metadata,
        user_data,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::args::Cli;
    use crate::command::Command;
    use clap::Parser;
    use std::sync::Arc;
    use walport_engine::settings::{SETTINGS, Source, Table};

    fn choose(line: &str, set: &[(&str, &str)]) -> Result<PushOptions> {
        let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
        for (name, value) in set {
            settings.set(name, value, Source::Environment(String::new())).unwrap();
        }
        match Cli::try_parse_from(format!("walport backup-push {line}").split_whitespace())
            .unwrap()
            .command
        {
            Some(Command::BackupPush(args)) => options(args, &settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_and_settings_mean_the_same() {
        let by_flags = choose("/d -pvs -b --add-user-data 1", &[]).unwrap();
        assert!(by_flags.permanent && by_flags.verify && by_flags.store_all_corrupt);
        assert_eq!(
            (by_flags.composer, by_flags.user_data.as_deref()),
            (Composer::Database, Some("1"))
        );
        let set = [
            ("WALG_VERIFY_PAGE_CHECKSUMS", "true"),
            ("WALG_STORE_ALL_CORRUPT_BLOCKS", "on"),
            ("WALG_USE_RATING_COMPOSER", "1"),
            ("WALG_SENTINEL_USER_DATA", "2"),
        ];
        let by_settings = choose("/d", &set).unwrap();
        assert!(!by_settings.permanent && by_settings.verify && by_settings.store_all_corrupt);
        assert_eq!(
            (by_settings.composer, by_settings.user_data.as_deref()),
            (Composer::Rating, Some("2"))
        );
        assert_eq!(choose("/d --database-composer", &set).unwrap().composer, Composer::Database);
    }

    #[test]
    fn what_contradicts_itself_or_cannot_be_done_is_refused() {
        assert!(choose("", &[]).is_err());
        assert!(choose("/d --copy-composer", &[]).is_err());
        assert!(choose("/d --delta-from-name LATEST", &[]).is_err());
        assert!(choose("/d --full --delta-from-name LATEST", &[]).is_ok());
        assert!(choose("/d --without-files-metadata --rating-composer", &[]).is_err());
        assert!(
            choose("/d --without-files-metadata", &[("WALG_USE_DATABASE_COMPOSER", "true")])
                .is_err()
        );
        assert!(choose("/d --without-files-metadata --delta-from-name x", &[]).is_err());
        assert!(choose("/d --without-files-metadata", &[]).unwrap().without_files_metadata);
        assert_eq!(choose("/d --add-user-data {", &[]).unwrap_err().kind(), Kind::Invalid);
    }
}
