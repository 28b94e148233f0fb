//! The fragments in `changelog.d/`: one file a change, named by what kind of change it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder, seen from the workspace.
pub(crate) const FOLDER: &str = "changelog.d";

/// The kinds in the order a release lists them, each with its heading.
pub(crate) const KINDS: &[(&str, &str)] =
    &[("added", "Added"), ("changed", "Changed"), ("fixed", "Fixed"), ("removed", "Removed"), ("security", "Security")];

/// One change, as its author put it.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) path: PathBuf,
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// Reads all fragments in the order of their names; what is wrong with them comes beside them.
pub(crate) fn read(root: &Path) -> Result<(Vec<Fragment>, Vec<String>)> {
    let folder = root.join(FOLDER);
    let mut paths = Vec::new();
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        paths.push(entry.with_context(|| format!("cannot list {}", folder.display()))?.path());
    }
    paths.sort_unstable();

    let mut fragments = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "README.md" {
            continue;
        }
        let Some(kind) = kind(&name) else {
            problems.push(format!(
                "{FOLDER}/{name}: a fragment is named <slug>.<kind>.md, the slug in a-z, 0-9 and -, the kind one of {}",
                KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ")
            ));
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = text.trim().to_owned();
        if text.is_empty() {
            problems.push(format!("{FOLDER}/{name}: the fragment has no text"));
            continue;
        }
        fragments.push(Fragment { path, kind, text });
    }
    Ok((fragments, problems))
}

/// The kind that a file name states, if it is the name of a fragment.
fn kind(name: &str) -> Option<&'static str> {
    let (slug, kind) = name.strip_suffix(".md")?.rsplit_once('.')?;
    let slug_is_good =
        !slug.is_empty() && slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !slug_is_good {
        return None;
    }
    KINDS.iter().map(|(known, _)| *known).find(|known| *known == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_state_a_slug_and_a_kind() {
        assert_eq!(kind("stream-resume.fixed.md"), Some("fixed"));
        assert_eq!(kind("2-hubs.added.md"), Some("added"));
        for bad in [
            "stream.md",
            ".fixed.md",
            "a.b.fixed.md",
            "Stream.fixed.md",
            "stream.repaired.md",
            "stream.fixed.txt",
            "stream.fixed",
        ] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }
}
