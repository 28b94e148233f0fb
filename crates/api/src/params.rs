//! Parameters of paths and queries, checked: what is wrong is named.

use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The parts of a path, percent-decoded.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::parameter("path", error.body_text()))
            }
            Err(error) => Err(Problem::parameter("path", error.body_text())),
        }
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<Vec<(String, String)>>::from_request_parts(parts, state).await {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(Problem::parameter("query", error.body_text())),
        }
    }
}

impl Params {
    /// Refuses parameters that are not among these, and those given twice: a mistyped filter must not be
    /// taken for none.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        self.only_once(known, &[])
    }

    /// The same, where some may be given several times.
    pub(crate) fn only_once(&self, known: &[&str], but: &[&str]) -> Result<(), Problem> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::parameter(name, format!("there is no parameter `{name}` here; known: {known}")));
            }
            if !but.contains(&name.as_str()) && self.0[..at].iter().any(|(other, _)| other == name) {
                return Err(Problem::parameter(name, format!("`{name}` must be given once")));
            }
        }
        Ok(())
    }

    /// A text; `None` where it is not given or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter that may be given several times.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A whole number within bounds.
    pub(crate) fn number<N: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        bounds: RangeInclusive<N>,
    ) -> Result<Option<N>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = bounds.into_inner();
                Err(Problem::parameter(
                    name,
                    format!("`{name}` must be a whole number of {least} to {most}, not `{text}`"),
                ))
            }
        }
    }

    /// How many items to give.
    pub(crate) fn limit(&self, usual: usize, most: usize) -> Result<usize, Problem> {
        Ok(self.number("limit", 1..=most)?.unwrap_or(usual))
    }

    /// A position in the journal.
    pub(crate) fn position(&self, name: &str) -> Result<Option<u64>, Problem> {
        // Positions are stored as signed numbers too.
        self.number(name, 0..=i64::MAX as u64)
    }
}
