//! `flags`: every setting that is also a flag.

use walport_engine::Result;

use crate::output;
use crate::program::{Outcome, Program};

/// Lists the flags, by name.
pub fn run(program: &Program) -> Result<Outcome> {
    let mut lines: Vec<(String, &str)> =
        program.settings.table().rows().map(|row| (row.flag(), row.help)).collect();
    lines.sort();
    let width = lines.iter().map(|(flag, _)| flag.len()).max().unwrap_or_default();
    let text: String =
        lines.iter().map(|(flag, help)| format!("{flag:width$}  {help}\n")).collect();
    output::write(text.as_bytes())?;
    Ok(Outcome::Done)
}
