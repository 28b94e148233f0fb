//! Scenarios from real bugs, named after their numbers. Each is told once and runs twice on a real server: through HTTP
//! and through gRPC. What has a form in only one of them (webhooks, an order's document) uses that one.

mod grpc;
mod money;
mod orders;
mod payment;
mod rest;
mod server;
mod shop;
mod stock;

/// Makes of each scenario a module with a test of each way.
macro_rules! both_ways {
    ($($(#[$attribute:meta])* async fn $name:ident<$way:ident>() $body:block)+) => {
        $(mod $name {
            use super::*;

            $(#[$attribute])*
            async fn scenario<$way: $crate::shop::Way>() $body

            #[tokio::test]
            async fn rest() {
                scenario::<$crate::rest::Rest>().await;
            }

            #[tokio::test]
            async fn grpc() {
                scenario::<$crate::grpc::Grpc>().await;
            }
        })+
    };
}
use both_ways;
