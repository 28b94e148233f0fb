//! Tests that need a process of their own run this program again, with one test and a folder.

use std::path::PathBuf;
use std::process::Command;

const DIR: &str = "LOCKSTEP_TEST_CHILD_DIR";

/// The folder that the parent gave to the child's test `name`; `None` in an ordinary run, where
/// such a test has nothing to do.
pub(crate) fn dir(name: &str) -> Option<PathBuf> {
    let given = std::env::var(DIR).ok()?;
    let (for_name, dir) = given.split_once('=')?;
    (for_name == name).then(|| dir.into())
}

/// What to add to a command so that it runs the child's test `name` in `dir`.
pub(crate) fn arguments(command: &mut Command, name: &str, dir: &std::path::Path) {
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(DIR, format!("{name}={}", dir.display()));
}

/// A command that runs the child's test `name` in `dir`.
pub(crate) fn command(name: &str, dir: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    arguments(&mut command, name, dir);
    command
}
