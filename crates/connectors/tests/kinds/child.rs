//! Tests that need a process of their own run this program again, with one test and a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "LOCKSTEP_TEST_CHILD_DIR";

/// The folder that the parent gave to the child's test `name`; `None` in an ordinary run, where such a test has
/// nothing to do.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let given = std::env::var(FOLDER).ok()?;
    let (for_name, folder) = given.split_once('=')?;
    (for_name == name).then(|| folder.into())
}

/// What to add to a command so that it runs the child's test `name` in `folder`.
fn arguments(command: &mut Command, name: &str, folder: &Path) {
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, format!("{name}={}", folder.display()));
}

/// A command that runs the child's test `name` in `folder`.
pub(crate) fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    arguments(&mut command, name, folder);
    command
}

/// Runs the child's test `name` on a disk of two megabytes, in a namespace of its own, which ends with it.
pub(crate) fn on_a_small_disk(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let namespace = ["--user", "--map-root-user", "--mount"];
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$0\"";
    let tried = Command::new("unshare").args(namespace).args(["sh", "-c", mount]).arg(folder.path()).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a small disk cannot be mounted in a namespace here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", &format!("{mount} && exec \"$@\"")]).arg(folder.path());
    command.arg(std::env::current_exe().unwrap());
    arguments(&mut command, name, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("the child is done"), "the child's test ran: {text}\n{errors}");
}
