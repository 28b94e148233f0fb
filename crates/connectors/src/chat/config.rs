//! The configuration of a chat destination.

use http::Uri;
use lockstep_connect::destination::Filter;
use lockstep_connect::signature::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::webhook::client::{self, HttpError};
use crate::webhook::{PrivateAddress, TIMEOUT_MS_MAX};

/// A destination that writes each event into a chat's channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// The address of the channel's incoming webhook. Most have a token in it: then it belongs into `secrets` instead.
    #[serde(default)]
    pub url: Option<String>,
    /// What a text is put into.
    #[serde(default)]
    pub format: Format,
    /// Which events go there; all of them without it.
    #[serde(default)]
    pub filter: Filter,
    /// A file with a VRL mapping, which makes the message out of the CloudEvent: a text is put into `format`, an object
    /// is sent as it is, `null` keeps the event back. Without it the text is the event's type and entity.
    #[serde(default)]
    pub mapping: Option<String>,
    /// How long a request may take, from connecting to the end of the answer.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// Whether the address may be one that is not of the public internet, such as one of your own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How many requests may be under way at once. Chats take few.
    #[serde(default = "concurrency_max")]
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
}

/// What a text is put into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"text": "..."}`: Slack, Mattermost, Rocket.Chat, Google Chat.
    #[default]
    Slack,
    /// A message with an adaptive card: Microsoft Teams.
    Teams,
}

fn timeout_ms() -> u64 {
    10_000
}

fn concurrency_max() -> u32 {
    1
}

/// Why a chat destination cannot be made.
#[derive(Debug, Error)]
pub enum ChatConfigError {
    /// The address cannot be used.
    #[error("`url` cannot be called")]
    Url(#[source] HttpError),
    /// The address is a literal one that is not public.
    #[error("`url` is refused")]
    PrivateAddress(#[source] PrivateAddress),
    /// The address among the secrets cannot be used. It is not shown.
    #[error("`secrets` {0}")]
    Secrets(&'static str),
    /// A number is out of its range.
    #[error("`{field}` must be from 1 to {max}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be made")]
    Client(#[source] HttpError),
}

impl ChatConfig {
    /// Everything that can be said without secrets and a connection: what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), ChatConfigError> {
        let concurrency_max = u64::from(self.concurrency_max);
        for (field, value, max) in
            [("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX), ("concurrency_max", concurrency_max, 10_000)]
        {
            if value == 0 || value > max {
                return Err(ChatConfigError::Range { field, value, max });
            }
        }
        let Some(url) = &self.url else { return Ok(()) };
        let uri = client::parse_url(url).map_err(ChatConfigError::Url)?;
        if !self.allow_private_addresses {
            client::check_literal(&uri).map_err(ChatConfigError::PrivateAddress)?;
        }
        Ok(())
    }

    /// The address, wherever it stands.
    pub(super) fn address(&self, secrets: &[Secret]) -> Result<Uri, ChatConfigError> {
        let secret = match (&self.url, secrets) {
            (Some(url), []) => return client::parse_url(url).map_err(ChatConfigError::Url),
            (None, [secret]) => secret,
            (Some(_), _) => {
                return Err(ChatConfigError::Secrets("has the address, and `url` too: leave one of them out"));
            }
            (None, []) => return Err(ChatConfigError::Secrets("must have the address of the channel, or `url`")),
            (None, _) => return Err(ChatConfigError::Secrets("must have one address: a channel has no second one")),
        };
        let uri = client::parse_url(secret.expose().trim())
            .map_err(|_| ChatConfigError::Secrets("must have the address of the channel, beginning with https://"))?;
        if !self.allow_private_addresses {
            client::check_literal(&uri).map_err(ChatConfigError::PrivateAddress)?;
        }
        Ok(uri)
    }
}
