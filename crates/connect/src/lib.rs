//! What the author of a connector or a pack sees: signatures, CloudEvents, destinations, packs and their translation.
//!
//! This crate knows no hub, no journal and no server: it makes changes of what comes in, and requests of what goes out.

pub mod cloudevents;
pub mod destination;
pub mod pack;
pub mod schema;
pub mod signature;
pub mod source;
pub mod time;
pub mod translate;
