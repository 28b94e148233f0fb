//! The connectors that come with Lockstep: a folder for each kind of system, and the list of them.
//!
//! A connector is a folder of its own with the same files in each: `config`, `destination` and, where the system also
//! sends, `source`. Beside its folder it is named here and nowhere else. This crate knows no hub and no journal.

pub mod chat;
pub mod email;
pub mod file;
pub mod http;
pub mod webhook;

use std::path::Path;

use lockstep_connect::destination::{Destination, Filter, Outlet};
use lockstep_connect::signature::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use webhook::{HttpClient, HttpError, HttpOptions};

/// Every kind of destination with its configuration. The list: a new kind is a line here, and the compiler asks for
/// the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// Signed HTTP requests.
    Webhook(webhook::WebhookConfig),
    /// Requests of an HTTP interface.
    Http(http::HttpConfig),
    /// Lines of JSON in files.
    File(file::FileConfig),
    /// E-mail.
    Email(email::EmailConfig),
    /// Messages in a chat.
    Chat(chat::ChatConfig),
}

/// Why a destination cannot be made of its configuration.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A webhook's.
    #[error(transparent)]
    Webhook(#[from] webhook::WebhookError),
    /// An HTTP interface's.
    #[error(transparent)]
    Http(#[from] http::HttpConfigError),
    /// A file's.
    #[error(transparent)]
    File(#[from] file::FileConfigError),
    /// An e-mail destination's.
    #[error(transparent)]
    Email(#[from] email::EmailConfigError),
    /// A chat's.
    #[error(transparent)]
    Chat(#[from] chat::ChatConfigError),
}

/// What a kind of destination does with the secrets of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretUse {
    /// It does not go without.
    Needed,
    /// It has a use for them.
    Possible,
    /// It has none, so there must be none.
    None,
}

impl DestinationConfig {
    /// What the kind of this name does with secrets.
    pub fn secret_use(kind: &str) -> SecretUse {
        match kind {
            "webhook" => SecretUse::Needed,
            "http" | "email" | "chat" => SecretUse::Possible,
            _ => SecretUse::None,
        }
    }

    /// Whether requests of this kind have headers, which may be secret.
    pub fn has_headers(kind: &str) -> bool {
        matches!(kind, "webhook" | "http")
    }

    /// The kind's name, as in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Http(_) => "http",
            Self::File(_) => "file",
            Self::Email(_) => "email",
            Self::Chat(_) => "chat",
        }
    }

    /// Which events go there.
    pub fn filter(&self) -> &Filter {
        match self {
            Self::Webhook(config) => &config.filter,
            Self::Http(config) => &config.filter,
            Self::File(config) => &config.filter,
            Self::Email(config) => &config.filter,
            Self::Chat(config) => &config.filter,
        }
    }

    /// The file with the mapping, where there is one.
    pub fn mapping(&self) -> Option<&str> {
        match self {
            Self::Webhook(config) => config.mapping.as_deref(),
            Self::Http(config) => config.mapping.as_deref(),
            Self::File(config) => config.mapping.as_deref(),
            Self::Email(config) => Some(&config.mapping),
            Self::Chat(config) => config.mapping.as_deref(),
        }
    }

    /// How many requests may be under way at once.
    pub fn concurrency_max(&self) -> u32 {
        match self {
            Self::Webhook(config) => config.concurrency_max,
            Self::Http(config) => config.concurrency_max,
            Self::File(config) => config.concurrency_max,
            Self::Email(config) => config.concurrency_max,
            Self::Chat(config) => config.concurrency_max,
        }
    }

    /// Has every request carry more headers, such as an access token.
    pub fn add_headers(&mut self, headers: impl IntoIterator<Item = (String, String)>) {
        match self {
            Self::Webhook(config) => config.headers.extend(headers),
            Self::Http(config) => config.headers.extend(headers),
            // Its configuration has no place for them: `has_headers`.
            Self::File(_) | Self::Email(_) | Self::Chat(_) => {}
        }
    }

    /// Has relative paths lie below this folder.
    pub fn set_base(&mut self, base: &Path) {
        if let Self::File(config) = self {
            config.set_base(base);
        }
    }

    /// What is wrong with it, if anything can be said without a connection.
    pub fn check(&self) -> Result<(), BuildError> {
        match self {
            Self::Webhook(config) => Ok(config.check()?),
            Self::Http(config) => Ok(config.check()?),
            Self::File(config) => Ok(config.check()?),
            Self::Email(config) => Ok(config.check()?),
            Self::Chat(config) => Ok(config.check()?),
        }
    }

    /// Makes the destination. The outlet has the filter and the programs that the configuration names.
    pub fn build(&self, secrets: &[Secret], outlet: Outlet) -> Result<Box<dyn Destination>, BuildError> {
        match self {
            Self::Webhook(config) => Ok(Box::new(webhook::WebhookDestination::new(config, secrets, outlet)?)),
            Self::Http(config) => Ok(Box::new(http::HttpDestination::new(config, secrets, outlet)?)),
            Self::File(config) => Ok(Box::new(file::FileDestination::new(config, outlet)?)),
            Self::Email(config) => Ok(Box::new(email::EmailDestination::new(config, secrets, outlet)?)),
            Self::Chat(config) => Ok(Box::new(chat::ChatDestination::new(config, secrets, outlet)?)),
        }
    }
}
