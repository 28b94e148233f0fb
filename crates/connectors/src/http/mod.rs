//! HTTP interfaces: each event becomes a request of its own, by OAuth 2 where the interface wants that, with conditions
//! on what it may overwrite, and with a say in what counts as success.

mod config;
mod destination;
mod etags;
mod oauth;
mod request;
mod success;

pub use config::{Conditional, Conflict, HttpConfig, HttpConfigError};
pub use destination::HttpDestination;
pub use oauth::{Credentials, OAuth, TokenError};
pub use success::Success;
