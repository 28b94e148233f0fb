//! The hub over gRPC: events in and out, stock, beside HTTP and by the same ways.
//!
//! A file a call. What is asked of an event, of a key and of a reader is decided in `lockstep-api`; here it is only
//! put into messages, which are `proto/lockstep/v1`.
//!
//! What it never knows: a concrete connector, the configuration file, how the hub decides or keeps its data.

mod calls;
mod convert;
mod deadline;
mod gate;
mod health;
mod publish;
mod publish_stream;
mod reflection;
mod server;
mod status;
mod stock;
mod subscribe;

pub use server::{GrpcOptions, serve};

pub use lockstep_proto::v1;

use lockstep_api::Api;

/// The service of events.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) api: Api,
    pub(crate) batches_in_flight_max: usize,
}
