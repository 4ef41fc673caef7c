//! Standard output: tables for people, JSON for programs.

use super::Global;
use super::failure::Failure;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// For whom to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// People at a terminal.
    Human,
    /// Programs.
    Json,
}

impl Format {
    /// JSON where asked for, and where nobody looks.
    pub fn choose(global: &Global) -> Format {
        if global.json || !std::io::stdout().is_terminal() { Format::Json } else { Format::Human }
    }
}

/// Writes bytes and flushes, so that they appear at once.
pub fn bytes(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

/// Writes one line of text.
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a JSON value: on several lines for a terminal, on one for a program.
pub fn json(value: &Value) -> Result<(), Failure> {
    let text = if std::io::stdout().is_terminal() { format!("{value:#}") } else { value.to_string() };
    line(&text)
}

/// Text from elsewhere made safe for a terminal: control characters, which could move the cursor or
/// change the title, become `\u{..}` escapes; line breaks and tabs become spaces.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => plain.push(' '),
            c if c.is_control() => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    plain
}

/// Columns as wide as their widest cell, two spaces apart; lines are cut at the edge of the terminal.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    lay_out(head, rows, if columns == 0 { usize::MAX } else { columns })
}

fn lay_out(head: &[&str], rows: &[Vec<String>], room: usize) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let lay = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cut(cells.join("  ").trim_end(), room)
    };
    let mut lines = vec![lay(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| lay(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// The first characters of a line that fit, ending in an ellipsis if there were more.
fn cut(line: &str, room: usize) -> String {
    if line.chars().count() <= room {
        return line.to_owned();
    }
    line.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// `name  value` lines, aligned; rows without a value are left out.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let shown = rows.iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:width$}  {}", plain(value))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_safe() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["länger\x1b[2J".to_owned(), "22\n3".to_owned()]];
        let text = lay_out(&["NAME", "N"], &rows, usize::MAX);
        assert_eq!(text, "NAME             N\na                1\nlänger\\u{1b}[2J  22 3");
        assert_eq!(lay_out(&["NAME", "N"], &rows, 6), "NAME …\na    …\nlänge…");
    }
}
