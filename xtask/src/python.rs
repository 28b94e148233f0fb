//! The Python that tests run: an environment of its own below `target/`, with what the examples and the tests ask for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{metadata, run};

/// What they ask for, one file each.
const REQUIREMENTS: &[&str] =
    &["examples/grpc-python/requirements.txt", "crates/connectors/tests/python/requirements.txt"];

/// Makes the environment where it is not there or is for other requirements.
pub(crate) fn ensure(root: &Path) -> Result<PathBuf> {
    let folder = metadata::load(root)?.target_folder.join("services").join("python");
    let mut wanted = String::new();
    for file in REQUIREMENTS {
        wanted.push_str(&std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?);
    }
    // Written last: an environment that was given up half way is made again.
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder).stdin(Stdio::null());
    if !run::succeeds(&mut make)? {
        bail!("`{}` failed: Debian's package python3-venv brings it", run::display(&make));
    }
    let mut install = Command::new(folder.join("bin").join("pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).current_dir(root).stdin(Stdio::null());
    for file in REQUIREMENTS {
        install.args(["--requirement", file]);
    }
    if !run::succeeds(&mut install)? {
        bail!("`{}` failed", run::display(&install));
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}
