//! What is printed: tables for people, JSON for programs, colour and progress only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::exit::Failure;

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// For this process: colour where the output is a terminal and `NO_COLOR` is not set.
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: wanted && !json && std::io::stdout().is_terminal() }
    }

    /// Whether JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a JSON document: on one line, so that several are JSON lines.
    pub fn json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)
            .map_err(|error| Failure::usage("not-json", format!("the answer can't be written as JSON: {error}")))?;
        self.line(&text)
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        // A reader such as `head` that has seen enough is no fault, but the rest is in vain.
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| Failure {
            exit: crate::exit::Exit::Done,
            code: "output-closed".to_owned(),
            message: error.to_string(),
        })
    }

    /// Prints text that may have several lines.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.line(text.trim_end_matches('\n'))
    }

    /// The text in a style, on a terminal.
    pub fn styled(&self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
    }

    /// A bar for long work, on the error stream and only where that is a terminal.
    pub fn progress(&self, length: u64, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {per_sec} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// A style of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Headings and names.
    Bold,
    /// Less important.
    Dim,
    /// Good.
    Green,
    /// To be looked at.
    Yellow,
    /// Bad.
    Red,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// A table: columns as wide as their widest cell, two spaces between them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    style: Option<Style>,
    cells: Vec<String>,
    /// A line of its own, which is part of no column.
    note: bool,
}

/// The widest that a cell is made; what is longer is cut, the JSON output has it whole.
const CELL_CHARS_MAX: usize = 60;

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Self::default();
        table.styled_row(Some(Style::Bold), headings.iter().map(|h| (*h).to_owned()));
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.styled_row(None, cells);
    }

    /// Adds a row in a style.
    pub fn styled_row(&mut self, style: Option<Style>, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row { style, cells: cells.into_iter().map(|cell| cut(&cell)).collect(), note: false });
    }

    /// Adds a line below the last row that belongs to it.
    pub fn note(&mut self, style: Style, text: &str) {
        self.rows.push(Row {
            style: Some(style),
            cells: vec![format!("    {}", crate::show::clean(text))],
            note: true,
        });
    }

    /// Whether there is nothing but headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The table as text.
    pub fn render(&self, output: &Output) -> String {
        let rows = || self.rows.iter().filter(|row| !row.note);
        let columns = rows().map(|row| row.cells.len()).max().unwrap_or(0);
        let width =
            |column: usize| rows().filter_map(|row| row.cells.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.cells.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
            }
            let line = line.trim_end();
            text.push_str(&row.style.map_or_else(|| line.to_owned(), |style| output.styled(style, line)));
            text.push('\n');
        }
        text
    }
}

/// A cell on one line and not too wide.
fn cut(cell: &str) -> String {
    let mut clean = crate::show::clean(cell);
    if clean.chars().count() > CELL_CHARS_MAX {
        clean = clean.chars().take(CELL_CHARS_MAX - 1).collect();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["field", "value"]);
        table.row(["total".to_owned(), "10.99 EUR".to_owned()]);
        let output = Output { json: false, colour: false };
        table.note(Style::Dim, "a note may be longer than any column");
        table.row(["tax".to_owned(), "1".to_owned()]);
        let expected = "field  value\ntotal  10.99 EUR\n    a note may be longer than any column\ntax    1\n";
        assert_eq!(table.render(&output), expected);
    }

    #[test]
    fn a_cell_is_one_line_and_bounded() {
        assert_eq!(cut("a\nb\x1b[31m"), "a b [31m");
        assert_eq!(cut(&"ä".repeat(200)).chars().count(), CELL_CHARS_MAX);
    }

    #[test]
    fn colour_is_only_for_terminals() {
        let plain = Output { json: false, colour: false };
        assert_eq!(plain.styled(Style::Red, "x"), "x");
        let terminal = Output { json: false, colour: true };
        assert_eq!(terminal.styled(Style::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
