//! Core is a function of its arguments. Its dependencies are listed here, its sources may not name
//! what reaches outside; `crates/core/clippy.toml` bans the single functions with a replacement each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::metadata::{Kind, Metadata};

const PACKAGE: &str = "lockstep-core";
const FOLDER: &str = "crates/core";

/// Crates without clock, randomness, IO, threads or global state that core may use.
const DEPENDENCIES: &[&str] =
    &["bytes", "compact_str", "prost", "serde", "serde_json", "thiserror", "xxhash-rust", "smallvec"];

/// What its tests may use besides.
const DEPENDENCIES_DEV: &[&str] = &["proptest"];

/// Modules of the standard library that reach outside.
const MODULES: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Other words that have no place in a pure function, each with what to do instead.
const WORDS: &[(&str, &str)] = &[
    ("async fn", "core never waits: return what shall be done as data"),
    ("async move", "core never waits: return what shall be done as data"),
    ("tokio", "core never waits: return what shall be done as data"),
    ("tracing", "core does not log: put the reason into the explanation of the decision"),
    ("clippy::disallowed", "the bans of crates/core/clippy.toml have no exception"),
    ("clippy::style", "this group has the bans of crates/core/clippy.toml, which have no exception"),
    ("clippy::all", "this group has the bans of crates/core/clippy.toml, which have no exception"),
];

/// Lists dependencies of core that are not on the list and lines of its sources that name IO.
pub(crate) fn check(root: &Path, metadata: &Metadata, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for member in metadata.members().filter(|member| member.name == PACKAGE) {
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            let allowed =
                DEPENDENCIES.contains(&name) || (dependency.kind == Kind::Dev && DEPENDENCIES_DEV.contains(&name));
            if !allowed {
                problems.push(format!(
                    "{PACKAGE} depends on {name}, which is not among the pure crates of xtask/src/tidy/purity.rs"
                ));
            }
        }
    }
    if !root.join(FOLDER).join("clippy.toml").is_file() {
        problems.push(format!("{FOLDER}/clippy.toml is missing: it holds the bans"));
    }
    for file in files.iter().filter(|file| is_source_of_core(file)) {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (line, problem) in impurities(&text) {
            problems.push(format!("{}:{line}: {problem}", file.display()));
        }
    }
    Ok(problems)
}

fn is_source_of_core(file: &Path) -> bool {
    file.starts_with(FOLDER) && file.extension().is_some_and(|extension| extension == "rs")
}

/// The lines of a source that name what core must not know.
fn impurities(text: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().map(without_comment).collect();
    let mut found = Vec::new();
    for (index, line) in code.iter().enumerate() {
        for module in std_modules(&code[index..]) {
            if MODULES.contains(&module.as_str()) {
                found.push((index + 1, format!("`std::{module}`: core knows no IO; take it as data")));
            }
        }
        for (word, instead) in WORDS {
            if contains_word(line, word) {
                found.push((index + 1, format!("`{word}`: {instead}")));
            }
        }
    }
    found
}

/// The modules named after each `std::` of the first line. A group in braces may go on over the
/// lines that follow.
fn std_modules(lines: &[&str]) -> Vec<String> {
    let Some(first) = lines.first() else {
        return Vec::new();
    };
    let mut modules = Vec::new();
    for (at, _) in first.match_indices("std::") {
        // `mystd::` is another crate; `::std::` and `(std::` are ours.
        if first[..at].ends_with(is_word_character) {
            continue;
        }
        let rest = &first[at + "std::".len()..];
        if rest.starts_with('{') {
            let joined = std::iter::once(rest).chain(lines[1..].iter().copied()).collect::<Vec<_>>().join("\n");
            modules.extend(heads_of_group(&joined));
        } else {
            modules.push(head(rest));
        }
    }
    modules
}

/// For `{fs, io::{Read, Write}}` the heads `fs` and `io`.
fn heads_of_group(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => {}
            _ => continue,
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && character != '}' {
            heads.push(head(text[at + 1..].trim_start()));
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn head(path: &str) -> String {
    path.chars().take_while(|c| is_word_character(*c)).collect()
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let starts = !line[..at].ends_with(is_word_character);
        // `clippy::disallowed` is a beginning: `_methods`, `_types` or `_macros` follows.
        let ends = word == "clippy::disallowed" || !line[at + word.len()..].starts_with(is_word_character);
        starts && ends
    })
}

/// The line up to a `//` that is not inside a string.
fn without_comment(line: &str) -> &str {
    line.match_indices("//")
        .map(|(at, _)| &line[..at])
        .find(|before| before.replace("\\\"", "").matches('"').count() % 2 == 0)
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        impurities(text)
            .into_iter()
            .filter_map(|(line, problem)| Some((line, problem.split('`').nth(1)?.to_owned())))
            .collect()
    }

    #[test]
    fn paths_that_reach_outside_are_found() {
        let text = "use std::collections::BTreeMap;\nuse std::fs::File;\nlet x = ::std::env::var(\"A\");\n";
        assert_eq!(found(text), [(2, "std::fs".to_owned()), (3, "std::env".to_owned())]);
    }

    #[test]
    fn a_group_is_looked_into_also_over_several_lines() {
        assert_eq!(found("use std::{fmt, net::TcpStream};"), [(1, "std::net".to_owned())]);
        let text = "use std::{\n    collections::{BTreeMap, BTreeSet},\n    thread,\n};\nfn process() {}\n";
        assert_eq!(found(text), [(1, "std::thread".to_owned())]);
        assert_eq!(found("use std::{collections::{btree_map, fs_like}, fmt};\nfs, x"), []);
    }

    #[test]
    fn waiting_and_logging_are_found() {
        let text = "pub async fn decide() {\n    tracing::info!(\"x\");\n}\nlet tokio_like = 1;\n";
        assert_eq!(found(text), [(1, "async fn".to_owned()), (2, "tracing".to_owned())]);
    }

    #[test]
    fn a_ban_cannot_be_switched_off() {
        let text = "#![allow(unused, clippy::all)]\n#[expect(clippy::disallowed_methods)]\nfn now() {}\n";
        assert_eq!(found(text), [(1, "clippy::all".to_owned()), (2, "clippy::disallowed".to_owned())]);
    }

    #[test]
    fn comments_may_speak_of_anything_but_strings_hide_nothing() {
        assert_eq!(found("/// unlike std::fs, and without tokio\nlet a = 1; // no std::env\n"), []);
        assert_eq!(found("let url = \"https://x\"; std::process::exit(1);"), [(1, "std::process".to_owned())]);
    }

    #[test]
    fn only_core_is_meant() {
        assert!(is_source_of_core(Path::new("crates/core/src/decide.rs")));
        assert!(!is_source_of_core(Path::new("crates/core/Cargo.toml")));
        assert!(!is_source_of_core(Path::new("crates/core-tools/src/lib.rs")));
        assert!(!is_source_of_core(Path::new("crates/hub/src/lib.rs")));
    }
}
