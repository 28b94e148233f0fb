//! Webhooks: signed HTTP requests by Standard Webhooks, and the HTTP client under them.

mod address;
mod batch;
mod client;
mod config;
mod destination;

pub use address::{PrivateAddress, is_public};
pub use batch::Batch;
pub use client::{HttpClient, HttpError, HttpOptions, Response, chain};
pub use config::{WebhookConfig, WebhookError};
pub use destination::WebhookDestination;
