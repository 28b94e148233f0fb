//! E-mail by SMTP.

mod config;
mod destination;
mod mail;
mod server;

pub use config::{EmailConfig, EmailConfigError, Tls};
pub use destination::EmailDestination;
