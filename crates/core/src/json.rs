//! A value as an entity keeps it: compact JSON, in place where it is short.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use compact_str::CompactString;

use crate::name::same;

/// Compact JSON with sorted keys, so that equal values are equal bytes.
///
/// Most values are numbers, flags, codes and dates: those of up to 24 bytes stand within the claim itself, so that
/// keeping one costs no allocation and comparing one follows no pointer.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(CompactString);

/// The bytes are no text, so they are no JSON either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value must be JSON, and so UTF-8")]
pub struct NotText;

impl Json {
    /// A value from its text.
    pub fn new(text: &str) -> Self {
        Self(CompactString::new(text))
    }

    /// A value from a field of a record.
    ///
    /// What is recorded was checked on the way in; bytes that are no text nevertheless are replaced.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(CompactString::from_utf8_lossy(bytes))
    }

    /// A copy for a record or an answer.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes that it takes beside its own place.
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.capacity() } else { 0 }
    }
}

impl Deref for Json {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsRef<[u8]> for Json {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl TryFrom<&[u8]> for Json {
    type Error = NotText;

    fn try_from(bytes: &[u8]) -> Result<Self, NotText> {
        CompactString::from_utf8(bytes).map(Self).map_err(|_| NotText)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for Json {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Json {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<[u8]> for Json {
    fn eq(&self, other: &[u8]) -> bool {
        same(self.0.as_bytes(), other)
    }
}

impl PartialEq<Bytes> for Json {
    fn eq(&self, other: &Bytes) -> bool {
        same(self.0.as_bytes(), other)
    }
}

impl PartialEq<Json> for Bytes {
    fn eq(&self, other: &Json) -> bool {
        other == self
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
