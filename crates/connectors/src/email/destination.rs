//! Events as e-mails.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use lettre::message::Mailbox;
use lockstep_connect::destination::{Destination, Outlet, PrepareError, Prepared, Sent};
use lockstep_connect::signature::Secret;
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;

use super::config::{EmailConfig, EmailConfigError, mailbox};
use super::mail::Mail;
use super::server::{SendError, Server};
use crate::webhook::{chain, class, text_head};

/// An e-mail destination.
pub struct EmailDestination {
    outlet: Outlet,
    mapping: String,
    from: Mailbox,
    to: Vec<String>,
    server: Server,
    timeout: Duration,
}

impl EmailDestination {
    /// A destination with its own connections. The outlet says what is told.
    pub fn new(config: &EmailConfig, secrets: &[Secret], outlet: Outlet) -> Result<Self, EmailConfigError> {
        Self::with_roots(config, secrets, outlet, &[])
    }

    /// The same, trusting these certificate authorities instead of the public ones, each in DER form.
    pub fn with_roots(
        config: &EmailConfig,
        secrets: &[Secret],
        outlet: Outlet,
        roots_der: &[Vec<u8>],
    ) -> Result<Self, EmailConfigError> {
        config.check()?;
        config.check_secrets(secrets)?;
        let from = mailbox(&config.from).map_err(|problem| EmailConfigError::Field { field: "from", problem })?;
        Ok(Self {
            outlet,
            mapping: config.mapping.clone(),
            from,
            to: config.to.clone(),
            server: Server::new(config, secrets, roots_der)?,
            timeout: Duration::from_millis(config.timeout_ms),
        })
    }
}

/// What it means that a mail was not taken.
fn result(error: &SendError) -> AttemptResult {
    // Whatever the event: a person has to look at the configuration or the account.
    let locked_out = || class(StatusCode::UNAUTHORIZED, &HeaderMap::new());
    match error {
        SendError::PrivateAddress(_) => AttemptResult::Rejected,
        SendError::NoStarttls { .. } => locked_out(),
        SendError::Login { source, .. } if source.is_permanent() || source.is_client() => locked_out(),
        // A server's 5xx, or a mail that this server cannot take: asking again gives the same.
        SendError::Send { source, .. } if source.is_permanent() || source.is_client() => AttemptResult::Rejected,
        _ => AttemptResult::Transient,
    }
}

#[async_trait]
impl Destination for EmailDestination {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let Some(mut prepared) = self.outlet.prepare(event)? else { return Ok(None) };
        let wrong = |message| PrepareError { message, at: Some(self.mapping.clone()) };
        let mail = Mail::mapped(&prepared.body, &prepared.id, event.recorded_at_us, &self.from, &self.to);
        let mail = mail.map_err(wrong)?;
        // What cannot be written is said here, before anybody is asked.
        mail.message(&prepared.id).map_err(wrong)?;
        let body = serde_json::to_vec(&mail).map_err(|error| wrong(format!("the mail can't be written: {error}")))?;
        prepared.body = Bytes::from(body);
        prepared.content_type = "application/json";
        Ok(Some(prepared))
    }

    fn keeps_own_word(&self, event: &Event) -> bool {
        self.outlet.keeps_own_word(event)
    }

    fn is_incomplete(&self, event: &Event) -> bool {
        self.outlet.is_incomplete(event)
    }

    async fn send(&self, prepared: &Prepared, _attempt: u32) -> Sent {
        let started = Instant::now();
        let sent = |result, detail: String, response_head| {
            let duration_us = started.elapsed().as_micros() as u64;
            Sent { result, status: 0, detail, response_head, duration_us }
        };
        let mail = serde_json::from_slice::<Mail>(&prepared.body).map_err(|error| error.to_string());
        let message = match mail.and_then(|mail| mail.message(&prepared.id)) {
            Ok(message) => message,
            // `prepare` has made every mail that gets here.
            Err(problem) => return sent(AttemptResult::Poison, problem, String::new()),
        };
        match tokio::time::timeout(self.timeout, self.server.send(&message)).await {
            Ok(Ok(response)) => {
                let said = response.message().collect::<Vec<_>>().join("\n");
                let detail = format!("{} has it: {}", self.server.name(), response.code());
                sent(AttemptResult::Delivered, detail, text_head(said.as_bytes()))
            }
            Ok(Err(error)) => sent(result(&error), chain(&error), String::new()),
            Err(_) => {
                let detail = format!("no answer from {} within {} ms", self.server.name(), self.timeout.as_millis());
                sent(AttemptResult::Transient, detail, String::new())
            }
        }
    }
}
