//! Secrets are named in the configuration and never written there.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use lockstep_connect::signature::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a secret is: `env:NAME` or `file:PATH`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

/// The name under which the schema says that a text is such a reference.
pub(crate) const FORMAT: &str = "secret-reference";

/// Why there is no secret. No variant has the secret, nor a text that could be one.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It is not a reference.
    #[error(
        "a secret is not written into the configuration, where backups and reviews would show it: \
         use \"env:NAME\" for a variable or \"file:PATH\" for a file"
    )]
    Literal,
    /// It names nothing.
    #[error("the name after `{0}` is missing: use \"env:NAME\" for a variable or \"file:PATH\" for a file")]
    Nameless(&'static str),
    /// The variable is not set.
    #[error("the secret's variable {0} is not set")]
    Unset(String),
    /// The variable is empty.
    #[error("the secret's variable {0} is empty")]
    EmptyVariable(String),
    /// The file can't be read.
    #[error("the secret's file {} can't be read: {}", path.display(), source)]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is empty.
    #[error("the secret's file {} is empty", .0.display())]
    EmptyFile(PathBuf),
}

impl SecretRef {
    /// A reference from its text, checked only when it is resolved.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Refuses what is not a reference.
    pub fn check(text: &str) -> Result<(), SecretError> {
        for prefix in ["env:", "file:"] {
            match text.strip_prefix(prefix).map(str::trim) {
                Some("") => return Err(SecretError::Nameless(prefix)),
                Some(_) => return Ok(()),
                None => {}
            }
        }
        Err(SecretError::Literal)
    }

    /// The secret itself. A relative file is looked for beside the configuration.
    pub fn resolve(&self, folder: &Path) -> Result<Secret, SecretError> {
        Self::check(&self.0)?;
        if let Some(name) = self.0.strip_prefix("env:") {
            let value = std::env::var(name).map_err(|_| SecretError::Unset(name.to_owned()))?;
            return match value.as_str() {
                "" => Err(SecretError::EmptyVariable(name.to_owned())),
                secret => Ok(Secret::new(secret)),
            };
        }
        let path = folder.join(self.0.trim_start_matches("file:"));
        let text =
            std::fs::read_to_string(&path).map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
        // Editors end a file with a line break that is not part of the secret.
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(SecretError::EmptyFile(path)),
            secret => Ok(Secret::new(secret)),
        }
    }
}

/// Shows the reference, but not a text that is none: it could be the secret itself.
impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if Self::check(&self.0).is_ok() { &self.0 } else { "(not a reference)" })
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a secret is: `env:NAME` for an environment variable or `file:PATH` for a file (relative to the configuration). Never the secret itself.",
            "type": "string",
            "format": FORMAT,
            "pattern": "^(env|file):.*\\S",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_secret_is_refused_and_not_shown() {
        let literal = SecretRef::new("hush-hush");
        let error = literal.resolve(Path::new(".")).unwrap_err();
        assert!(matches!(error, SecretError::Literal));
        for shown in [format!("{error}"), format!("{error:?}"), format!("{literal:?}")] {
            assert!(!shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cret\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let resolve = |text: &str| SecretRef::new(text).resolve(folder.path());
        assert_eq!(resolve("file:key").unwrap().expose(), "s3cret");
        assert!(matches!(resolve("file:empty"), Err(SecretError::EmptyFile(_))));
        assert!(matches!(resolve("file:none"), Err(SecretError::Unreadable { .. })));
        assert!(
            matches!(resolve("env:LOCKSTEP_TEST_NEVER_SET"), Err(SecretError::Unset(name)) if name == "LOCKSTEP_TEST_NEVER_SET")
        );
        assert!(matches!(resolve("env:"), Err(SecretError::Nameless("env:"))));
    }
}
