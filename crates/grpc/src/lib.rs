//! The hub over gRPC: events in and out, beside HTTP and by the same ways.
//!
//! A file a call. What is asked of an event, of a key and of a reader is decided in `lockstep-api`; here it is only
//! put into messages. The interface is `proto/lockstep/v1`, from which the code in `generated/` is made.
//!
//! What it never knows: a concrete connector, the configuration file, how the hub decides or keeps its data.

mod convert;
mod gate;
mod health;
mod publish;
mod publish_stream;
mod reflection;
mod server;
mod status;
mod subscribe;

pub use server::{GrpcOptions, serve};

/// The messages and services of `lockstep.v1`.
pub mod v1 {
    // Generated and compared by a test, which also rewrites it: neither its form nor its length is ours.
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
    include!("generated/lockstep.v1.rs.in");
}

/// The descriptors of `lockstep.v1` and of what it imports, an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/lockstep.v1.binpb");

use lockstep_api::Api;

/// The service of events.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) api: Api,
    pub(crate) batches_in_flight_max: usize,
}
