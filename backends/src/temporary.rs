//! Names of files that are being written: stores whose objects are files hide
//! them. WAL-G uses and hides the same form.

use chrono::Utc;

/// The longest file name in bytes on the usual file systems.
const MAX_NAME: usize = 255;
/// The bytes of `.tmp.<YYYYMMDDTHHMMSSZ>-<16 hex digits>`.
const SUFFIX: usize = 5 + 16 + 1 + 16;

/// What the file `name` is called while it is being written. No two calls give
/// the same.
pub(crate) fn name_for(name: &str) -> String {
    let longest = name.len().min(MAX_NAME - SUFFIX);
    let kept = (0..=longest).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let time = Utc::now().format("%Y%m%dT%H%M%SZ");
    format!("{}.tmp.{time}-{:016x}", &name[..kept], fastrand::u64(..))
}

/// Whether `name` ends as [`name_for`] makes it.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    let Some(suffix) = name.len().checked_sub(SUFFIX).map(|at| &name[at..]) else { return false };
    let Some(rest) = suffix.strip_prefix(b".tmp.") else { return false };
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    digits(&rest[..8])
        && rest[8] == b'T'
        && digits(&rest[9..15])
        && rest[15..17] == *b"Z-"
        && rest[17..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
