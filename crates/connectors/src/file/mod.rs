//! Files of JSON lines: appended, synced, and rotated by size and time.

mod config;
mod destination;
mod names;
mod writer;

pub use config::{FileConfig, FileConfigError};
pub use destination::FileDestination;
