//! A promise that was broken.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Violation {
    /// Which promise; a shortened history must break the same one.
    pub code: &'static str,
    /// What was found.
    pub detail: String,
}

/// The error of a broken promise.
pub(crate) fn violated<T>(code: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { code, detail: detail.into() })
}
