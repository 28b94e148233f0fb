//! Orders of a file instead of made ones.

pub(crate) mod audit;
pub(crate) mod exact;
pub(crate) mod file;
pub(crate) mod pack;
pub(crate) mod say;
pub(crate) mod shop;
pub(crate) mod totals;
