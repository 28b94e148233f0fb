//! Every kind of destination against a real peer.

mod child;
#[path = "../common/mod.rs"]
mod common;
mod file;
mod http;
mod python;
mod signatures;
mod webhook;
