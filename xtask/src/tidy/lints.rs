//! The lints of the workspace bind a crate only if its manifest takes them over.

use anyhow::{Context, Result};

use crate::metadata::Metadata;

/// Lists the members whose manifest has no `[lints] workspace = true`.
pub(crate) fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for member in metadata.members() {
        let manifest = std::fs::read_to_string(&member.manifest)
            .with_context(|| format!("cannot read {}", member.manifest.display()))?;
        if !inherits(&manifest) {
            problems.push(format!("{}: its Cargo.toml has no `[lints]` with `workspace = true`", member.name));
        }
    }
    Ok(problems)
}

fn inherits(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.by_ref().any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lints_table_counts() {
        assert!(inherits("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits("[package]\nname = \"a\"\n"));
        assert!(!inherits("[lints]\n\n[dependencies.bytes]\nworkspace = true\n"));
        assert!(!inherits("[lints.rust]\nunsafe_code = \"allow\"\n"));
    }
}
