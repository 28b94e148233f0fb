//! Tests that need a process of their own run this program again, with one test and a folder.

use std::path::{Path, PathBuf};
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
pub(crate) fn arguments(command: &mut Command, name: &str, dir: &Path) {
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(DIR, format!("{name}={}", dir.display()));
}

/// A command that runs the child's test `name` in `dir`.
pub(crate) fn command(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    arguments(&mut command, name, dir);
    command
}

/// Compiles a library that a child is to load before the C library, or says why that cannot be done here.
pub(crate) fn preload(dir: &Path, name: &str, source: &str) -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux loads a library before the C library in this way");
        return None;
    }
    let library = dir.join(name).with_extension("so");
    let file = dir.join(name).with_extension("c");
    std::fs::write(&file, source).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &file]).arg("-ldl").status();
    match compiled {
        Ok(status) => {
            assert!(status.success(), "the library does not compile");
            Some(library)
        }
        Err(error) => {
            eprintln!("skipped: there is no C compiler \"cc\" here ({error})");
            None
        }
    }
}
