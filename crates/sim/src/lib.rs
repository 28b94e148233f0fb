//! The hub in a seeded virtual world: docs/sim.md says how to run it and how to read what it finds.
//!
//! A seed makes a history ([`generate`]): a list of operations ([`op`]). The [`world`] applies them to the hub's own
//! loop, journaler, flusher and recovery, one step at a time, on one thread and with its own clock, a virtual
//! [`disk`] under the journal and the real state file ([`files`]). What the sources and readers are told goes into
//! the [`ledger`]; the [`audit`] holds the journal and the hub against it and against documents that the [`auditor`]
//! computes from the set of observations, and [`stock`] against its own arithmetic. A history that fails is shortened ([`mod@shrink`]).

pub mod audit;
pub mod auditor;
pub mod counts;
pub mod disk;
pub mod files;
pub mod generate;
pub mod ledger;
pub mod network;
pub mod op;
pub mod orders;
mod replies;
pub mod rules;
pub mod run;
pub mod settle;
pub mod shrink;
pub mod stock;
pub mod violation;
pub mod world;
