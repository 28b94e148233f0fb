//! A problem of a configuration: where it is and what would be right.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The hub does not start with it.
    Error,
    /// The hub starts, but not here or not as one might think.
    Warning,
}

/// One problem, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub level: Level,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// An error at a place.
    pub fn new(file: impl Into<PathBuf>, line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { level: Level::Error, file: file.into(), line, column, message: message.into() }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    /// Whether the hub does not start with it.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if self.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Line and column (from 1, in characters) of a byte in a text.
pub fn line_column(text: &str, byte: usize) -> (usize, usize) {
    // Never inside a character: an error's span may end anywhere.
    let byte = (0..=byte.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..byte];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The nearest of the known names, where one is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(name.chars().count()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?` where there is a near name, else the list of known ones where it is short.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let mut known: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
    known.sort();
    match known.len() {
        0 => String::new(),
        1 => format!("; the only one known is {}", known[0]),
        2..=16 => format!("; known are {}", known.join(", ")),
        more => format!("; {more} others are known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_in_characters() {
        assert_eq!(line_column("", 0), (1, 1));
        assert_eq!(line_column("a\nbc", 3), (2, 2));
        assert_eq!(line_column("ä = 1", 3), (1, 3));
        assert_eq!(line_column("ä", 1), (1, 1));
        assert_eq!(line_column("a", 99), (1, 2));
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["policy", "owner", "states", "schema"];
        assert_eq!(nearest("polcy", known), Some("policy"));
        assert_eq!(nearest("ownre", known), Some("owner"));
        assert_eq!(nearest("Owner", known), Some("owner"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("data-dir", ["data_dir"]), Some("data_dir"));
        assert!(suggestion("zzz", known).contains("`owner`, `policy`, `schema`, `states`"));
    }
}
