//! Every kind of destination against a real peer.

mod chat;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod email;
mod file;
mod http;
mod python;
mod signatures;
mod webhook;
