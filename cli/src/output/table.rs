//! Tables: plain columns, or a box.

use super::Form;

/// Renders rows of cells under their names (plain) or titles (pretty). Without
/// rows there is nothing, not even a header.
pub fn render(names: &[&str], titles: &[&str], rows: &[Vec<String>], form: Form) -> Vec<u8> {
    if rows.is_empty() {
        return Vec::new();
    }
    let text = if form == Form::Pretty { boxed(titles, rows) } else { plain(names, rows) };
    text.into_bytes()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns)
        .map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
        .collect()
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{:1$}", "", to.saturating_sub(width(text)))
}

/// Columns padded by one space; the last one is not padded.
fn plain(names: &[&str], rows: &[Vec<String>]) -> String {
    let mut all = vec![names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()];
    all.extend_from_slice(rows);
    let widths = widths(&all);
    let last = widths.len() - 1;
    let mut text = String::new();
    for row in &all {
        for (column, cell) in row.iter().enumerate() {
            if column == last {
                text.push_str(cell);
            } else {
                text.push_str(&padded(cell, widths[column] + 1));
            }
        }
        text.push('\n');
    }
    text
}

/// A box of `+`, `-` and `|`; titles in capitals, rows numbered from 0.
fn boxed(titles: &[&str], rows: &[Vec<String>]) -> String {
    let numbered = |(index, row): (usize, &Vec<String>)| {
        let mut cells = vec![index.to_string()];
        cells.extend_from_slice(row);
        cells
    };
    let mut header = vec!["#".to_owned()];
    header.extend(titles.iter().map(|title| title.to_uppercase()));
    let mut all = vec![header];
    all.extend(rows.iter().enumerate().map(numbered));
    let widths = widths(&all);
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let mut text = format!("{rule}+\n");
    for (index, row) in all.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            // The numbers are flush right, and so is their title.
            let cell = if column == 0 {
                format!("{cell:>0$}", widths[0])
            } else {
                padded(cell, widths[column])
            };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if index == 0 {
            text.push_str(&format!("{rule}+\n"));
        }
    }
    text.push_str(&format!("{rule}+\n"));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_gives_nothing_and_numbers_stand_right() {
        assert!(render(&["a"], &["A"], &[], Form::Plain).is_empty());
        let rows: Vec<_> = (0..11).map(|n| vec![format!("é{n}")]).collect();
        let text = String::from_utf8(render(&["name"], &["Name"], &rows, Form::Pretty)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "+----+------+");
        assert_eq!(lines[1], "|  # | NAME |");
        assert_eq!(lines[3], "|  0 | é0   |");
        assert_eq!(lines[13], "| 10 | é10  |");
        assert_eq!(lines.len(), 15);
    }
}
