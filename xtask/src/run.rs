//! Where the workspace is, which files belong to it, and how other programs are started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Folders that hold what is made, not what is written.
const FOLDERS_MADE: &[&str] = &[".git", "target", "lockstep-data"];

/// The folder of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo sets the variable on `cargo run`; the compiled-in value is for a direct start.
    let manifest_folder =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest_folder.parent().context("xtask's folder has no parent folder")?;
    if !root.join("Cargo.lock").is_file() {
        bail!("{} is not the workspace: no Cargo.lock", root.display());
    }
    Ok(root.to_path_buf())
}

/// Cargo in the workspace, with the environment a person's shell would give it: `cargo run` adds
/// variables about xtask, and build scripts that watch these would run again at each change of caller.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let about_xtask =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if about_xtask {
            command.env_remove(name);
        }
    }
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// Whether the work runs where nobody can be asked and nothing may be left out.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// The command as a person would type it.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs the command with its output shown; says whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
    Ok(status.success())
}

/// The files that are in version control or would be with the next `git add`, relative to `root`.
/// Without a usable git (a source archive, a container with another owner): all files but made ones.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output();
    let mut files = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .context("git lists a file whose name is not UTF-8")?
            .split_terminator('\0')
            .map(PathBuf::from)
            .collect(),
        _ => {
            let mut files = Vec::new();
            walk(root, Path::new(""), &mut files)?;
            files
        }
    };
    files.sort_unstable();
    files.dedup();
    // A file deleted but not yet staged is still listed by git.
    files.retain(|file| root.join(file).is_file());
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = root.join(folder);
    let entries = std::fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        let name = entry.file_name();
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", entry.path().display()))?;
        if kind.is_file() {
            files.push(folder.join(name));
        } else if kind.is_dir() && !FOLDERS_MADE.iter().any(|made| name == *made) {
            walk(root, &folder.join(name), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_a_walk_agree_on_the_files_of_this_crate() {
        let root = root().expect("the workspace");
        let sources = |files: Vec<PathBuf>| -> Vec<PathBuf> {
            let mut sources: Vec<_> = files.into_iter().filter(|file| file.starts_with("xtask/src")).collect();
            sources.sort_unstable();
            sources
        };
        let mut walked = Vec::new();
        walk(&root, Path::new(""), &mut walked).expect("a walk");
        let listed = sources(files(&root).expect("a list"));
        assert!(listed.contains(&PathBuf::from("xtask/src/run.rs")));
        assert_eq!(listed, sources(walked));
    }

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["fmt", "--all"]);
        assert_eq!(display(&command), "cargo fmt --all");
    }
}
