//! `WALPORT_CHECK_WAL`: does the content of a segment fit its name?

use std::path::Path;

use super::push::{open_file, read_full};
use crate::codec::transfer;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layout::WalFile;
use crate::postgres::control::ControlFile;
use crate::postgres::wal_page;

/// Checks a segment before it is archived, if the setting is on: its first page
/// must carry the timeline and the address of its name, and the system
/// identifier of the cluster whose `pg_wal` it lies in.
pub(super) async fn before_push(context: &Context, path: &Path, name: &str) -> Result<()> {
    if !context.settings.flag("WALPORT_CHECK_WAL") {
        return Ok(());
    }
    let size = super::segment_size(&context.settings);
    let WalFile::Segment(segment) = WalFile::classify(name, size) else {
        return Ok(());
    };
    let path = path.to_owned();
    transfer::blocking("check", move || {
        let cannot_read = |error| Error::io(format!("cannot read {}", path.display()), error);
        let mut file = open_file(&path)?;
        let length = file.metadata().map_err(cannot_read)?.len();
        let mut page = vec![0; wal_page::HEADER_LEN];
        let read = read_full(&mut file, &mut page).map_err(cannot_read)?;
        wal_page::check_segment(&page[..read], &segment, length, system_identifier(&path))
            .map_err(|error| error.context(format!("{} was not archived", path.display())))
    })
    .await
}

/// The identifier in the control file of the cluster that `path` belongs to.
fn system_identifier(path: &Path) -> Option<u64> {
    let wal = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let data = wal.map_or_else(|| Path::new("..").to_owned(), |wal| wal.join(".."));
    let bytes = std::fs::read(data.join("global/pg_control")).ok()?;
    ControlFile::parse(&bytes).ok().map(|control| control.system_identifier)
}
