//! The hub over gRPC: a real server on a port of its own, and real clients.

mod auth;
mod calls;
mod deadline;
mod harness;
mod publish;
mod publish_stream;
mod stock;
mod subscribe;
