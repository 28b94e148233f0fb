//! Every kind of destination against a real peer.

#[path = "../common/mod.rs"]
mod common;
mod http;
mod python;
mod signatures;
mod webhook;
