//! Mappings: small programs in the Vector Remap Language (VRL) that turn one JSON value into another.
//!
//! A [`Program`] is compiled once, when a configuration is loaded: a mapping that can fail without saying what
//! shall happen then is refused before it sees any data. It runs on any number of threads at once.
//!
//! **A mapping is a function of its input.** Run again on the same input, after a year and on another machine,
//! it gives the same output; replaying history through a changed mapping rests on that. So of VRL's standard
//! library everything is left out that asks the clock, chance, the environment, the network or the disk, that
//! logs, or that reads or writes secrets. [`functions`] lists what there is, and what commerce needs is added:
//! `money`, `money_sum`, `qty`, `stamp`, `utc`, `id`, `alias` and
//! `pick`.
//!
//! A program reads its input at `.` and what is known about it (topic, channel, headers) at `%`.

pub mod functions;
mod json;
mod program;
mod wanted;

pub use functions::stamp::parse_rfc3339;
pub use json::{JsonError, from_json, to_json, write_json};
pub use program::{CompileError, Program, RunError};
pub use vrl::value::{KeyString, ObjectMap, Value};
