//! The tests of the whole crate, as one program.

mod beside;
mod child;
mod conformance;
mod faults;
mod fixtures;
mod full_disk;
mod kill;
mod power_loss;
mod retention;
mod reused_log;
mod room;
mod round_trip;
mod support;
mod sync_fault;
