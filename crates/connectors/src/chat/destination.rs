//! Events as messages in a chat.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use lockstep_connect::destination::{Destination, Outlet, PrepareError, Prepared, RESPONSE_HEAD_BYTES_MAX, Sent};
use lockstep_connect::signature::Secret;
use lockstep_core::Event;
use serde_json::{Value, json};

use super::config::{ChatConfig, ChatConfigError, Format};
use crate::webhook::client::{self, HttpClient, HttpOptions};
use crate::webhook::{RESPONSE_READ_BYTES_MAX, answered, class, failed, text_head};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A chat destination.
pub struct ChatDestination {
    outlet: Outlet,
    mapping: Option<String>,
    format: Format,
    client: HttpClient,
    uri: Uri,
    timeout: Duration,
}

impl ChatDestination {
    /// A destination with its own connections. The outlet says what is told.
    pub fn new(config: &ChatConfig, secrets: &[Secret], outlet: Outlet) -> Result<Self, ChatConfigError> {
        config.check()?;
        let client = HttpClient::new(HttpOptions {
            allow_private_addresses: config.allow_private_addresses,
            connect_timeout_ms: client::connect_timeout_ms(config.timeout_ms),
            idle_connections_max: config.concurrency_max as usize,
            ..HttpOptions::default()
        })
        .map_err(ChatConfigError::Client)?;
        Ok(Self {
            outlet,
            mapping: config.mapping.clone(),
            format: config.format,
            client,
            uri: config.address(secrets)?,
            timeout: Duration::from_millis(config.timeout_ms),
        })
    }
}

/// A text as the chat takes it.
fn message(format: Format, text: &str) -> Value {
    match format {
        Format::Slack => {
            // What would be a link or a mention there (`<!channel>`) stays text: it may come from a customer.
            json!({ "text": text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") })
        }
        Format::Teams => {
            let card = json!({
                "type": "AdaptiveCard",
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "version": "1.4",
                "body": [{ "type": "TextBlock", "text": text, "wrap": true }],
            });
            let attachment = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "content": card });
            json!({ "type": "message", "attachments": [attachment] })
        }
    }
}

#[async_trait]
impl Destination for ChatDestination {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let Some(mut prepared) = self.outlet.prepare(event)? else { return Ok(None) };
        let text = match &self.mapping {
            None => format!("{} {}/{}", event.fact.event_type, event.fact.kind, event.fact.key),
            // An object is sent as the mapping has written it.
            Some(_) if prepared.body.first() == Some(&b'{') => return Ok(Some(prepared)),
            Some(name) => serde_json::from_slice::<String>(&prepared.body).map_err(|_| PrepareError {
                message: "it must come to a text or an object".to_owned(),
                at: Some(name.clone()),
            })?,
        };
        prepared.body = Bytes::from(message(self.format, &text).to_string());
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
        let mut request = Request::new(Full::new(prepared.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("lockstep/", env!("CARGO_PKG_VERSION"))));
        if let Ok(id) = HeaderValue::from_str(&prepared.id) {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        let answer =
            self.client.exchange(request, RESPONSE_HEAD_BYTES_MAX, RESPONSE_READ_BYTES_MAX, self.timeout).await;
        let duration_us = started.elapsed().as_micros() as u64;
        match answer {
            Ok(head) => Sent {
                result: class(head.status, &head.headers),
                status: head.status.as_u16(),
                detail: answered(head.status, &head.headers, &head.end),
                response_head: text_head(&head.body),
                duration_us,
            },
            Err(error) => Sent {
                result: failed(&error),
                status: 0,
                detail: client::chain(&error),
                response_head: String::new(),
                duration_us,
            },
        }
    }
}
