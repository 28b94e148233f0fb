//! The configuration of an e-mail destination.

use lettre::message::Mailbox;
use lockstep_connect::destination::Filter;
use lockstep_connect::signature::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::webhook::TIMEOUT_MS_MAX;

/// A destination that sends each event as an e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The mail server, for example `smtp.example.com`.
    #[schemars(length(min = 1))]
    pub host: String,
    /// Its port; without it 587, or 465 with `tls = "implicit"`, or 25 with `tls = "none"`.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: Tls,
    /// Who logs in; `secrets` has the password. Without it nobody does.
    #[serde(default)]
    pub user: Option<String>,
    /// Who sends, for example `Lockstep <hub@example.com>`.
    pub from: String,
    /// Who gets it, unless the mapping says `to`.
    #[serde(default)]
    pub to: Vec<String>,
    /// What the hub calls itself to the server; without it the domain of `from`.
    #[serde(default)]
    pub hello_name: Option<String>,
    /// Which events go there; all of them without it.
    #[serde(default)]
    pub filter: Filter,
    /// A file with a VRL mapping, which makes the mail out of the CloudEvent: an object with `subject`, `text` and, where
    /// it is not always the same, `to` (an address or a list of them); `null` keeps the event back.
    pub mapping: String,
    /// How long a mail may take, from connecting to the server's word that it has it.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// Whether the server may have an address that is not of the public internet, such as one of your own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How many mails may be under way at once, each on a connection of its own.
    #[serde(default = "concurrency_max")]
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// By STARTTLS. A server that does not offer it gets nothing.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all: for a server on this machine. Then nobody can log in.
    None,
}

fn timeout_ms() -> u64 {
    30_000
}

fn concurrency_max() -> u32 {
    2
}

/// Why an e-mail destination cannot be made.
#[derive(Debug, Error)]
pub enum EmailConfigError {
    /// A field has a value that it cannot have.
    #[error("`{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What would be right.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] lettre::transport::smtp::Error),
}

fn wrong(field: &'static str, problem: impl Into<String>) -> EmailConfigError {
    EmailConfigError::Field { field, problem: problem.into() }
}

/// A mailbox, with or without a name.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| format!("must be an address such as `hub@example.com`, not `{text}`"))
}

impl EmailConfig {
    /// Everything that can be said without a connection: what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), EmailConfigError> {
        let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
        if self.host.is_empty() || !self.host.bytes().all(is_good) {
            let problem = format!("must be the name or address of a server, not `{}`", self.host);
            return Err(wrong("host", problem));
        }
        if self.port == Some(0) {
            return Err(wrong("port", "must be from 1 to 65535, not 0"));
        }
        mailbox(&self.from).map_err(|problem| wrong("from", problem))?;
        for to in &self.to {
            mailbox(to).map_err(|problem| wrong("to", problem))?;
        }
        if let Some(name) = self.hello_name.as_ref().filter(|name| name.is_empty() || !name.bytes().all(is_good)) {
            return Err(wrong("hello_name", format!("must be a name such as `hub.example.com`, not `{name}`")));
        }
        if self.user.is_some() && self.tls == Tls::None {
            return Err(wrong("user", "must not be given with `tls = \"none\"`: everybody could read the password"));
        }
        let concurrency_max = u64::from(self.concurrency_max);
        for (field, value, max) in
            [("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX), ("concurrency_max", concurrency_max, 1_000)]
        {
            if value == 0 || value > max {
                return Err(wrong(field, format!("must be from 1 to {max}, not {value}")));
            }
        }
        Ok(())
    }

    /// Whether the secrets are what `user` needs.
    pub(super) fn check_secrets(&self, secrets: &[Secret]) -> Result<(), EmailConfigError> {
        match (&self.user, secrets) {
            (Some(_), []) => Err(wrong("secrets", "must have the password of `user`")),
            (None, [_, ..]) => Err(wrong("secrets", "has a password, and `user` is missing")),
            _ => Ok(()),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::Starttls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        })
    }
}
