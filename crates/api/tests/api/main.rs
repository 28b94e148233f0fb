//! The HTTP interface of a real hub, over loopback. A file a resource.

mod auth;
mod conflicts;
mod dead_letters;
mod destinations;
mod entities;
mod events;
mod faults;
mod harness;
mod ledger_schemas;
mod limits;
mod openapi;
mod operating;
mod oversight;
mod problems;
mod propagation;
mod quarantine;
mod replays;
mod schemas;
mod stock;
mod stream;
mod webhooks;
