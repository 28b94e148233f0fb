//! What `cargo metadata` says, cut down to what the checks ask of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// The workspace and all packages it is built from.
pub(crate) struct Metadata {
    /// Members first to last as cargo lists them, then everything they depend on.
    pub(crate) packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub(crate) target_folder: PathBuf,
}

/// One package of the lock file.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    /// Whether it belongs to this workspace.
    pub(crate) member: bool,
}

/// One line of a package's manifest.
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The table a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Metadata {
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }
}

/// Asks cargo about the workspace, with the lock file as it is.
pub(crate) fn load(root: &Path) -> Result<Metadata> {
    let mut command = run::cargo(root);
    command.args(["metadata", "--locked", "--format-version", "1"]);
    let output = command.stderr(Stdio::piped()).output().context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata --locked failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let value: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    parse(&value)
}

fn parse(value: &Value) -> Result<Metadata> {
    let members: Vec<&str> = list(value, "workspace_members")?.iter().filter_map(Value::as_str).collect();
    let packages = list(value, "packages")?
        .iter()
        .map(|package| {
            let dependencies = list(package, "dependencies")?
                .iter()
                .map(|dependency| {
                    let kind = match dependency.get("kind").and_then(Value::as_str) {
                        None => Kind::Normal,
                        Some("build") => Kind::Build,
                        Some("dev") => Kind::Dev,
                        Some(other) => {
                            bail!("cargo metadata has an unknown kind of dependency `{other}`")
                        }
                    };
                    let name = text(dependency, "name")?;
                    Ok(Dependency { name, kind })
                })
                .collect::<Result<_>>()?;
            let id = text(package, "id")?;
            Ok(Package {
                name: text(package, "name")?,
                version: text(package, "version")?,
                licence: package.get("license").and_then(Value::as_str).map(str::to_owned),
                manifest: text(package, "manifest_path")?.into(),
                dependencies,
                member: members.contains(&id.as_str()),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Metadata { packages, target_folder: text(value, "target_directory")?.into() })
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value]> {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .with_context(|| format!("cargo metadata has no list `{field}`"))
}

fn text(value: &Value, field: &str) -> Result<String> {
    value
        .get(field)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata has no text `{field}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_understood() {
        let metadata = load(&run::root().expect("the workspace")).expect("metadata");
        let xtask = metadata.members().find(|package| package.name == "xtask").expect("xtask is a member");
        assert_eq!(xtask.licence.as_deref(), Some("Apache-2.0"));
        assert!(
            xtask
                .dependencies
                .iter()
                .any(|dependency| dependency.name == "serde_json" && dependency.kind == Kind::Normal)
        );
        let foreign = metadata.packages.iter().find(|package| package.name == "serde_json");
        assert!(!foreign.expect("a dependency is listed").member);
    }

    #[test]
    fn an_unexpected_shape_is_refused_by_the_name_of_the_field() {
        let error = parse(&serde_json::json!({ "workspace_members": [] }));
        let text = error.err().map(|error| error.to_string());
        assert_eq!(text.as_deref(), Some("cargo metadata has no list `packages`"));
    }
}
