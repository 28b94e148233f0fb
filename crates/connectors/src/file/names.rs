//! The names of the files: what they begin with, and the time at which each began, so that they sort by it.

use std::path::Path;
use std::{fs, io};

use lockstep_connect::time::{format_rfc3339, parse_rfc3339};

const EXTENSION: &str = ".jsonl";

/// The name of a file that begins now.
pub(super) fn name(prefix: &str, at_ms: i64) -> String {
    // `2026-03-01T09:00:00.000000Z` without what file systems and shells do not like.
    let text: String = format_rfc3339(at_ms * 1_000).chars().filter(|c| !"-:Z".contains(*c)).collect();
    format!("{prefix}-{}Z{EXTENSION}", &text[..text.len() - 3])
}

/// When the file of this name began, in milliseconds since 1970; `None` where it is none of ours.
pub(super) fn began_ms(prefix: &str, name: &str) -> Option<i64> {
    let text = name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(EXTENSION)?.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    if !text.is_ascii() || date.len() != 8 || time.len() != 10 {
        return None;
    }
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    let (hour, minute, rest) = (&time[..2], &time[2..4], &time[4..]);
    Some(parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}Z"))? / 1_000)
}

/// The file that began last, where there is one, with when that was.
pub(super) fn last(folder: &Path, prefix: &str) -> io::Result<Option<(String, i64)>> {
    let mut last: Option<(String, i64)> = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(began) = began_ms(prefix, name)
            && last.as_ref().is_none_or(|(_, latest)| began > *latest)
        {
            last = Some((name.to_owned(), began));
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_its_file_began() {
        let at_ms = 1_772_355_600_123;
        assert_eq!(name("orders", at_ms), "orders-20260301T090000.123Z.jsonl");
        assert_eq!(began_ms("orders", "orders-20260301T090000.123Z.jsonl"), Some(at_ms));
        for other in [
            "orders-2-20260301T090000.123Z.jsonl",
            "orders-20260301T090000.123Z.jsonl.gz",
            "orders-20261301T090000.123Z.jsonl",
            "orders-20260301T0900.jsonl",
            "order-20260301T090000.123Z.jsonl",
            "orders-2026030\u{e4}T090000.123Z.jsonl",
            "notes.txt",
        ] {
            assert_eq!(began_ms("orders", other), None, "{other}");
        }
    }

    #[test]
    fn the_last_is_the_one_that_began_last() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last(folder.path(), "a").unwrap(), None);
        for (prefix, at_ms) in [("a", 5_000), ("a", 90_000_000_000), ("a", 7_000), ("b", 99_000_000_000)] {
            fs::write(folder.path().join(name(prefix, at_ms)), "").unwrap();
        }
        assert_eq!(last(folder.path(), "a").unwrap(), Some((name("a", 90_000_000_000), 90_000_000_000)));
        assert!(last(&folder.path().join("none"), "a").is_err());
    }
}
