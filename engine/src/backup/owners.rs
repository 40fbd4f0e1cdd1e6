//! Names of users and groups for tar headers, as the system's files give them.

use std::collections::HashMap;
use std::fs;

/// Who is who. A number without a name has an empty one.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Reads `/etc/passwd` and `/etc/group`; what cannot be read has no names.
    pub(super) fn read() -> Self {
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    pub(super) fn user(&self, id: u32) -> &str {
        self.users.get(&id).map_or("", String::as_str)
    }

    pub(super) fn group(&self, id: u32) -> &str {
        self.groups.get(&id).map_or("", String::as_str)
    }
}

/// The first and third field of each line.
fn names(path: &str) -> HashMap<u32, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) =
            (fields.next(), fields.nth(1).and_then(|id| id.parse().ok()))
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}
