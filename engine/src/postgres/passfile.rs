//! The password file (`~/.pgpass`): one line per `host:port:database:user:password`.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a line must match: for a socket, its directory and `localhost`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub hosts: &'a [&'a str],
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// The password of the first line that matches. As libpq does, a file that
/// others may read is ignored with a warning, and a missing one silently.
pub(super) fn lookup(file: &Path, wanted: Wanted<'_>) -> Option<String> {
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                log::warn!("password file {} is ignored: {error}", file.display());
            }
            return None;
        }
    };
    if !metadata.is_file() {
        log::warn!("password file {} is ignored: it is not a plain file", file.display());
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        log::warn!(
            "password file {} is ignored: its mode is {:04o}, and must be 0600 or stricter",
            file.display(),
            metadata.mode() & 0o7777
        );
        return None;
    }
    match std::fs::read_to_string(file) {
        Ok(text) => find(&text, wanted),
        Err(error) => {
            log::warn!("password file {} is ignored: {error}", file.display());
            None
        }
    }
}

fn find(text: &str, wanted: Wanted<'_>) -> Option<String> {
    let port = wanted.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        let mut field = || {
            let (text, after) = split(rest)?;
            rest = after;
            Some(text)
        };
        let (host, line_port, database, user) = (field()?, field()?, field()?, field()?);
        let matches = |pattern: &Field, value: &str| pattern.any || pattern.text == value;
        let found = wanted.hosts.iter().any(|name| matches(&host, name))
            && matches(&line_port, &port)
            && matches(&database, wanted.database)
            && matches(&user, wanted.user);
        found.then(|| unescape(rest))
    })
}

struct Field {
    text: String,
    /// An unescaped `*`.
    any: bool,
}

/// The field before the first bare colon, and what follows the colon.
fn split(line: &str) -> Option<(Field, &str)> {
    let mut escaped = false;
    let end = line.find(|c| {
        let colon = c == ':' && !escaped;
        escaped = c == '\\' && !escaped;
        colon
    })?;
    let raw = &line[..end];
    Some((Field { text: unescape(raw), any: raw == "*" }, &line[end + 1..]))
}

fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        result.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WANTED: Wanted<'_> = Wanted { hosts: &["db"], port: 5433, database: "app", user: "bob" };

    #[test]
    fn the_first_line_that_matches_counts() {
        let text = "# db:5433:app:bob:no\nother:*:*:*:no\ndb:5432:*:*:no\ndb:*:app:bob:y\\:e\\\\s\n*:*:*:*:late";
        assert_eq!(find(text, WANTED).unwrap(), "y:e\\s");
        assert_eq!(find("d\\b:*:*:*:x", WANTED).unwrap(), "x");
        assert_eq!(find("\\*:*:*:*:x", WANTED), None, "an escaped star is a star");
        assert_eq!(find("db:*:*\n", WANTED), None);
        assert_eq!(find("db:*:*:*:a:b", WANTED).unwrap(), "a:b");
        let socket = Wanted { hosts: &["/run/pg", "localhost"], ..WANTED };
        assert_eq!(find("localhost:*:*:*:x", socket).unwrap(), "x");
    }

    #[test]
    fn a_file_others_may_read_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        std::fs::write(&file, "*:*:*:*:x\n").unwrap();
        for (mode, expected) in
            [(0o600, Some("x")), (0o640, None), (0o604, None), (0o400, Some("x"))]
        {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(lookup(&file, WANTED).as_deref(), expected, "{mode:o}");
        }
        assert_eq!(lookup(directory.path(), WANTED), None);
        assert_eq!(lookup(&directory.path().join("none"), WANTED), None);
    }
}
