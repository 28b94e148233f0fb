//! The text of a configuration with the place of everything in it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Problem, line_column};

/// The text of a file, in which everything can be found again.
#[derive(Debug)]
pub struct Document {
    file: PathBuf,
    text: String,
}

impl Document {
    /// Takes a text; what is not TOML is reported, and the rest can still be looked at for further problems.
    pub fn parse(file: &Path, text: String) -> (Self, Vec<Problem>) {
        let document = Self { file: file.to_owned(), text };
        let (_, errors) = DeTable::parse_recoverable(&document.text);
        let problems = errors
            .iter()
            .map(|error| {
                let message = error.message().trim().replace('\n', "; ");
                document.problem_at(error.span().unwrap_or(0..0), message)
            })
            .collect();
        (document, problems)
    }

    /// The top table. It is parsed anew: it borrows from the text, which is small.
    pub fn root(&self) -> DeTable<'_> {
        DeTable::parse_recoverable(&self.text).0.into_inner()
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A problem at a place of the text.
    pub fn problem_at(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let (line, column) = line_column(&self.text, span.start);
        Problem::new(&self.file, line, column, message)
    }

    /// A problem at the value with this path, or at the nearest thing around it that is written down.
    /// Numbers count the entries of a list.
    pub fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        self.problem_at(self.span(path), message)
    }

    fn span(&self, path: &[&str]) -> Range<usize> {
        let root = self.root();
        let mut found = 0..0;
        let mut table = Some(&root);
        let mut list = None;
        for step in path {
            let next: Option<(Range<usize>, &Spanned<DeValue<'_>>)> = match (table, list) {
                (Some(entries), _) => {
                    entries.iter().find(|(key, _)| key.get_ref() == step).map(|(key, value)| (key.span(), value))
                }
                (None, Some(entries)) => step.parse().ok().and_then(|at: usize| {
                    let entries: &DeArray<'_> = entries;
                    entries.get(at).map(|value| (value.span(), value))
                }),
                (None, None) => None,
            };
            let Some((key, value)) = next else { break };
            table = value.get_ref().as_table();
            list = value.get_ref().as_array();
            // A table is shown by its name, a value by itself.
            found = if table.is_some() { key } else { value.span() };
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_where_it_is_written() {
        let text = "[sources.shop]\nsystem = \"web\"\nsecrets = [\"env:A\",\n  \"env:B\"]\n";
        let (document, problems) = Document::parse(Path::new("x.toml"), text.to_owned());
        assert_eq!(problems, []);
        let place = |path: &[&str]| {
            let problem = document.problem(path, "x");
            (problem.line, problem.column)
        };
        assert_eq!(place(&["sources", "shop"]), (1, 10));
        assert_eq!(place(&["sources", "shop", "system"]), (2, 10));
        assert_eq!(place(&["sources", "shop", "secrets", "1"]), (4, 3));
        assert_eq!(place(&["sources", "shop", "pack"]), (1, 10), "what is missing is shown at its table");
        assert_eq!(place(&["nowhere"]), (1, 1));
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let (_, problems) = Document::parse(Path::new("x.toml"), "a = \nb = 1\nc = = 2\n".to_owned());
        let lines: Vec<_> = problems.iter().map(|p| p.line).collect();
        assert!(lines.contains(&1) && lines.contains(&3), "{problems:?}");
    }
}
