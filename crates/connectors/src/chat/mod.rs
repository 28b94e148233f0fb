//! Messages into a chat's channel, by the incoming webhooks that Slack, Teams and their likes offer.

mod config;
mod destination;

pub use config::{ChatConfig, ChatConfigError, Format};
pub use destination::ChatDestination;
