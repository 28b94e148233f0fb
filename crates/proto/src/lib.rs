//! The messages and services of `proto/lockstep/v1`, for the server and for clients in Rust.
//!
//! The code is made of the `.proto` files, kept, and compared by a test. So building the hub needs neither a compiler
//! of those files nor the crates that generate code, and what changes is seen in the diff. It is a crate of its own so
//! that it can be made anew while nothing fits it yet.

/// The messages and services of `lockstep.v1`.
pub mod v1 {
    // Neither its form nor its length is ours.
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
    include!("generated/lockstep.v1.rs.in");
}

/// The descriptors of `lockstep.v1` and of what it imports, an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/lockstep.v1.binpb");
