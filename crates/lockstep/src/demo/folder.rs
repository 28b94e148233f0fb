//! The demo's folder: a temporary one that is removed at the end, or one that is kept.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::exit::Failure;

/// See the module.
pub(crate) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// A folder that is kept must be new or empty: a second run would be taken for repetitions of the first.
    pub(crate) fn new(keep: Option<&Path>) -> anyhow::Result<Self> {
        let (path, kept) = match keep {
            Some(path) => (path.to_owned(), true),
            None => {
                let name = format!("lockstep-demo-{}-{}", std::process::id(), lockstep_hub::now_us());
                (std::env::temp_dir().join(name), false)
            }
        };
        std::fs::create_dir_all(&path).with_context(|| format!("the folder {} can't be made", path.display()))?;
        let mut entries =
            std::fs::read_dir(&path).with_context(|| format!("the folder {} can't be read", path.display()))?;
        if entries.next().is_some() {
            let message = format!("--keep must name a new or an empty folder, and {} has files", path.display());
            return Err(Failure::usage("keep", message).into());
        }
        Ok(Self { path, kept })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the temporary folder can't be removed");
        }
    }
}
