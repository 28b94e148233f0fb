//! `cargo xtask changelog`: the fragments of `changelog.d/` become one release in CHANGELOG.md.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::fragments::{self, Fragment, KINDS};
use crate::metadata;

const FILE: &str = "CHANGELOG.md";
const HEADER: &str = "# Changelog\n\nWhat a release changes for those who run Lockstep or build on it, newest first.\n";

/// Writes the release and removes its fragments.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<bool> {
    let version = match arguments {
        [] => workspace_version(root)?,
        [version] => version.clone(),
        [_, extra, ..] => bail!("`changelog` takes one version, got also `{extra}`"),
    };
    if !is_version(&version) {
        bail!("`{version}` is no version: three numbers with dots between, such as 1.2.0");
    }
    let (fragments, problems) = fragments::read(root)?;
    if !problems.is_empty() {
        for problem in &problems {
            println!("{problem}");
        }
        return Ok(false);
    }
    if fragments.is_empty() {
        bail!("{} has no fragments: there is nothing to release", fragments::FOLDER);
    }

    let path = root.join(FILE);
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEADER.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let new = with_release(&old, &version, &today()?, &fragments)?;
    // The file before the fragments: after a failure in between, text is there twice and not lost.
    std::fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))?;
    for fragment in &fragments {
        std::fs::remove_file(&fragment.path).with_context(|| format!("cannot remove {}", fragment.path.display()))?;
    }
    println!("{FILE}: {version}, changes: {}", fragments.len());
    Ok(true)
}

fn workspace_version(root: &Path) -> Result<String> {
    metadata::load(root)?
        .members()
        .find(|package| package.name == "lockstep")
        .map(|package| package.version.clone())
        .context("the workspace has no package lockstep")
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Puts the release above the ones before it.
fn with_release(old: &str, version: &str, date: &str, fragments: &[Fragment]) -> Result<String> {
    let heading = format!("## {version} ");
    if old.lines().any(|line| line.starts_with(&heading)) {
        bail!("{FILE} already has the release {version}");
    }
    let at = old.match_indices("\n## ").next().map_or(old.len(), |(newline, _)| newline + 1);
    let (before, after) = old.split_at(at);
    let mut text = format!("{}\n\n{heading}({date})\n", before.trim_end());
    for (kind, title) in KINDS {
        let mut of_kind = fragments.iter().filter(|fragment| fragment.kind == *kind).peekable();
        if of_kind.peek().is_some() {
            write!(text, "\n### {title}\n\n")?;
        }
        for fragment in of_kind {
            // Further lines are indented, so that they stay inside the list's item.
            let item = fragment.text.lines().map(str::trim_end).collect::<Vec<_>>();
            writeln!(text, "- {}", item.join("\n  ").replace("\n  \n", "\n\n"))?;
        }
    }
    if !after.is_empty() {
        text.push('\n');
        text.push_str(after);
    }
    Ok(text)
}

/// Today's date in UTC.
fn today() -> Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
    Ok(date(seconds / 86_400))
}

/// The date that many days after 1970-01-01.
fn date(days: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut left = days;
    let mut year = 1970;
    loop {
        let days_of_year = if is_leap(year) { 366 } else { 365 };
        if left < days_of_year {
            break;
        }
        left -= days_of_year;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days_of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days_of_month {
            break;
        }
        left -= days_of_month;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(kind: &'static str, text: &str) -> Fragment {
        Fragment { path: "changelog.d/x".into(), kind, text: text.to_owned() }
    }

    #[test]
    fn a_release_lists_its_changes_by_kind_above_earlier_releases() {
        let fragments = [
            fragment("fixed", "A stream goes on after a restart."),
            fragment("added", "A pack for a shop.\n\nIt knows five topics."),
            fragment("fixed", "A full disk is reported."),
        ];
        let first = with_release(HEADER, "0.1.0", "2025-01-31", &fragments[..1]).expect("a release");
        let second = with_release(&first, "0.2.0", "2025-02-28", &fragments[1..]).expect("a release");
        let expected = format!(
            "{HEADER}
## 0.2.0 (2025-02-28)

### Added

- A pack for a shop.

  It knows five topics.

### Fixed

- A full disk is reported.

## 0.1.0 (2025-01-31)

### Fixed

- A stream goes on after a restart.
"
        );
        assert_eq!(second, expected);
    }

    #[test]
    fn a_release_is_written_once() {
        let fragments = [fragment("added", "A thing.")];
        let first = with_release(HEADER, "1.0.0", "2025-01-01", &fragments).expect("a release");
        let error = with_release(&first, "1.0.0", "2025-01-02", &fragments).expect_err("twice");
        assert_eq!(error.to_string(), "CHANGELOG.md already has the release 1.0.0");
    }

    #[test]
    fn versions_are_three_numbers() {
        assert!(is_version("0.10.2"));
        for bad in ["", "1.0", "1.0.0-rc1", "v1.0.0", "1..0", "1.0.0.0"] {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn days_become_dates_also_around_leap_days() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (30, "1970-01-31"),
            (31, "1970-02-01"),
            (364, "1970-12-31"),
            (365, "1971-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
