//! The Python that `cargo xtask services` makes ready, with the libraries of `tests/python/requirements.txt`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs this script of `tests/python`, where Python is there.
pub(crate) fn script(name: &str) -> Option<Command> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let folder = target.join("services/python");
    let python = folder.join("bin/python");
    // An environment that was made for other requirements lacks what the script imports.
    let made_for = std::fs::read_to_string(folder.join("requirements.txt")).unwrap_or_default();
    if !python.is_file() || !made_for.contains(include_str!("../python/requirements.txt")) {
        let required = std::env::var_os("LOCKSTEP_REQUIRE_SERVICES").is_some();
        assert!(!required, "{} is not there: `cargo xtask services` makes it", python.display());
        eprintln!("skipped: {} is not there: `cargo xtask services` makes it", python.display());
        return None;
    }
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let mut command = Command::new(python);
    command.arg(script);
    Some(command)
}
