//! The simulated systems: a real HTTP server and a real HTTP client each.

pub(crate) mod copy;
pub(crate) mod receiver;
pub(crate) mod sender;
