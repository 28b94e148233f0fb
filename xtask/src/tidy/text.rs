//! Rules for the text of every file: it is finished, it explains itself to someone who has nothing
//! but this repository, and a Rust file holds one thing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The longest a Rust file may be.
const RUST_LINES_MAX: usize = 900;

/// First folders of absolute paths that exist on one person's machine and on no other.
const FOLDERS_OF_A_MACHINE: &[&str] = &["farm", "home", "tmp", "Users", "work"];

/// Macros that stand for code which is not there.
const MACROS_UNFINISHED: &[&str] = &["todo", "unimplemented"];

/// Words that make a comment a note to oneself when it begins with them, in whatever case.
const NOTES: &[&str] = &["todo", "fixme", "xxx"];

/// Lists what breaks the rules in the given files. Files that are not text are passed over.
pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files {
        let path = root.join(file);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        if text.contains('\0') {
            continue;
        }
        let rust = file.extension().is_some_and(|extension| extension == "rs");
        for (line, problem) in problems_in(&text, rust) {
            problems.push(format!("{}:{line}: {problem}", file.display()));
        }
    }
    Ok(problems)
}

fn problems_in(text: &str, rust: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(folder) = FOLDERS_OF_A_MACHINE.iter().find(|folder| names_folder(line, folder)) {
            found.push((
                index + 1,
                format!("the absolute path /{folder} exists on one machine only; say it relative to this repository"),
            ));
        }
        if rust {
            found.extend(unfinished(line).map(|problem| (index + 1, problem)));
        }
    }
    let lines = text.lines().count();
    if rust && lines > RUST_LINES_MAX {
        found.push((
            lines,
            format!("{lines} lines are more than {RUST_LINES_MAX}: split the file by what its parts do"),
        ));
    }
    found
}

/// Whether the line has the absolute path of `folder` or of something in it.
fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}");
    line.match_indices(&path).any(|(at, _)| {
        let before = &line[..at];
        let begins = before.ends_with("file://") || !before.ends_with(is_part_of_path);
        let ends = !line[at + path.len()..].starts_with(|next: char| next.is_alphanumeric() || "_-.".contains(next));
        begins && ends
    })
}

/// Characters after which a slash goes on with a path (or closes a tag) instead of beginning one.
fn is_part_of_path(before: char) -> bool {
    before.is_alphanumeric() || "_-.~/}])>*<".contains(before)
}

fn unfinished(line: &str) -> Option<String> {
    for name in MACROS_UNFINISHED {
        if line.contains(&format!("{name}!(")) {
            return Some(format!("`{name}!` stands for code that is not there"));
        }
    }
    let trimmed = line.trim_start();
    let ignored = trimmed.starts_with(&format!("#[{}", "ignore"))
        || (trimmed.starts_with("#[cfg_attr(") && trimmed.contains(", ignore"));
    if ignored {
        return Some("an ignored test tests nothing: make it run everywhere or remove it".to_owned());
    }
    let (_, comment) = trimmed.split_once("//")?;
    let first_word =
        comment.trim_start_matches(['/', '!', ' ']).split(|character: char| !character.is_alphanumeric()).next()?;
    NOTES
        .iter()
        .any(|note| first_word.eq_ignore_ascii_case(note))
        .then(|| format!("{first_word}: do it now, or write down why it is left out on purpose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, rust: bool) -> Vec<usize> {
        problems_in(text, rust).into_iter().map(|(line, _)| line).collect()
    }

    /// A path whose text would break the rule if it stood here in full.
    fn path(folder: &str, rest: &str) -> String {
        format!("/{folder}{rest}")
    }

    #[test]
    fn absolute_paths_of_one_machine_are_found() {
        for text in [
            format!("see {} for it", path("work", "/notes.md")),
            format!("\"{}\"", path("tmp", "/x")),
            format!("`{}`", path("home", "/ann/lockstep")),
            format!("dir={}", path("tmp", "")),
            format!("file://{}", path("Users", "/ann/a.csv")),
            path("farm", "/runs"),
        ] {
            assert_eq!(lines(&text, false), [1], "{text}");
        }
    }

    #[test]
    fn other_paths_are_left_alone() {
        for text in [
            "../shared/home/orders.csv".to_owned(),
            "https://example.com/home/index.html".to_owned(),
            format!("$TMPDIR{}", path("tmp", "/x")),
            format!("<b>home<{}>", path("home", "")),
            path("workers", "/7"),
            "${root}/home/a".to_owned(),
            "/var/lib/lockstep".to_owned(),
        ] {
            assert_eq!(lines(&text, false), Vec::<usize>::new(), "{text}");
        }
    }

    #[test]
    fn what_is_not_finished_is_found_in_rust_only() {
        let text = format!(
            "{}!()\n    {}!(\"later\")\n    #[{}]\n#[{} = \"slow\"]\n#[cfg_attr(miri, ignore)]\n// {}: more\nlet x = 1; // {} y\n",
            "todo",
            "unimplemented",
            "ignore",
            "ignore",
            NOTES[0].to_uppercase(),
            NOTES[1]
        );
        assert_eq!(lines(&text, true), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(lines(&text, false), Vec::<usize>::new());
        assert_eq!(lines("// ignore what the shop repeats\nlet todo_list = 1;\n", true), Vec::<usize>::new());
    }

    #[test]
    fn a_rust_file_may_have_so_many_lines_and_no_more() {
        let text = "\n".repeat(RUST_LINES_MAX);
        assert_eq!(lines(&text, true), Vec::<usize>::new());
        let text = "\n".repeat(RUST_LINES_MAX + 1);
        assert_eq!(lines(&text, true), [RUST_LINES_MAX + 1]);
        assert_eq!(lines(&text, false), Vec::<usize>::new());
    }
}
