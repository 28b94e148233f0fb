//! How a command ends: stable exit codes, and failures in one sentence.

use std::fmt;

use serde_json::{Value, json};

/// The exit codes. They never change their meaning; `docs/cli.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done, or the answer is yes.
    Done,
    /// The answer is no: not found, not verified, different.
    No,
    /// The command line, the configuration or the start is at fault.
    Usage,
    /// The hub can't be reached, or can't answer now.
    Unreachable,
    /// The hub refuses: no key, a wrong one, or one without the scope.
    Refused,
    /// A second signal ended it before it was done.
    Forced,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Forced => 130,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do what it was asked: one sentence for a person, a code for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// A stable code.
    pub code: String,
    /// The sentence.
    pub message: String,
}

impl Failure {
    /// A failure of the command line, the configuration or the start.
    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: code.to_owned(), message: message.into() }
    }

    /// The answer is no.
    pub fn no(code: &str, message: impl Into<String>) -> Self {
        Self { exit: Exit::No, code: code.to_owned(), message: message.into() }
    }

    /// The hub can't be reached, or can't answer now.
    pub fn unreachable(code: &str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, code: code.to_owned(), message: message.into() }
    }

    /// The failure as a JSON document.
    pub fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message } })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error with its causes in one sentence: `what: because: of this`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
