//! Webhooks: signed HTTP requests by Standard Webhooks, and the HTTP client under them.

mod address;
mod batch;
pub(crate) mod client;
mod config;
mod destination;

pub use address::{PrivateAddress, is_public};
pub use batch::Batch;
pub use client::{HttpClient, HttpError, HttpOptions, Response, chain};
pub(crate) use config::TIMEOUT_MS_MAX;
pub use config::{WebhookConfig, WebhookError};
pub use destination::WebhookDestination;
pub(crate) use destination::{RESPONSE_READ_BYTES_MAX, answered, class, failed, said, text_head};
