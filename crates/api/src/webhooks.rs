//! `POST /v1/webhooks/{source}`: signed deliveries. Everything authentic is answered 2xx once it is durable,
//! understood or not: a vendor turns off a hook that answers errors.

use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, header};
use lockstep_connect::signature::SignatureError;
use lockstep_core::stock::STOCK_KIND;
use lockstep_core::{Change, Input, InputBody, Raw, decide};
use lockstep_hub::now_us;
use utoipa::ToSchema;

use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::trace::Trace;
use crate::view::{self, OutcomeBody};
use crate::{Api, body};

/// A body that is taken as it comes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "it stands for the bytes in the documentation alone")]
pub(crate) struct RawBody(Vec<u8>);

/// Takes a signed delivery in.
///
/// Its signature is checked over the raw bytes before anything is parsed. A delivery that was seen before is
/// answered with `duplicate`, one that is authentic but not understood with `quarantined`: both are a success
/// for the sender. What a shop system sends unsigned to see whether somebody is there is answered with `ping`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{source}",
    operation_id = "receiveWebhook",
    tag = "intake",
    params(("source" = String, Path, description = "The source, as named in the configuration")),
    request_body(content = RawBody, content_type = "*/*", description = "The delivery, byte for byte as the sender signs it; most senders send JSON"),
    responses(
        (status = 200, description = "Durable", body = OutcomeBody),
        (status = 400, description = "The body can't be read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The signature is missing, wrong or stale; nothing is kept", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is compressed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn receive(
    State(api): State<Api>,
    Segments(name): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(intake) = api.sources.get(&name) else {
        return Err(Problem::new(Code::UnknownSource, format!("there is no webhook source `{name}`")));
    };
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let body = body::read(&headers, body, api.options.webhook_bytes_max, &api.options).await?;
    let received_at_us = now_us();
    let verified = intake.verifier.verify(&headers, &body, received_at_us / 1_000_000);
    if let Err(error) = verified {
        if matches!(error, SignatureError::Missing { .. }) && intake.source.is_ping(&headers, &body) {
            return Ok(view::json(&OutcomeBody { outcome: "ping", ..OutcomeBody::default() }));
        }
        api.hub.stats().unauthentic.fetch_add(1, Ordering::Relaxed);
        return Err(error.into());
    }
    let source = &intake.source;
    let topic = source.topic(&headers).unwrap_or_default();
    let translated = source.translator().translate(&topic, &headers, &body, received_at_us);
    let keep = intake.keep_raw
        || match &translated {
            InputBody::Quarantine(_) | InputBody::Stock(_) | InputBody::Retry { .. } => true,
            // From a clock that is ahead, or with external ids: too far, or of another entity, and it is quarantined too.
            InputBody::Changes(changes) => {
                // So is a count that contradicts another one.
                let may_be_held = |change: &Change| {
                    change.occurred_at_us > received_at_us || decide::has_aliases(change) || change.kind == STOCK_KIND
                };
                changes.iter().any(may_be_held)
            }
        };
    let delivery = source.delivery_id(&headers, &body);
    let input = Input {
        source: source.name().to_owned(),
        system: source.system().to_owned(),
        delivery,
        payload_hash: lockstep_core::payload_hash(&body),
        // A vendor that sends the same id with another body means the same delivery.
        reject_reuse: false,
        request_key: None,
        received_at_us,
        trace: Some(Trace::of(&headers).into_string()),
        raw: keep.then(|| Raw { topic, headers: kept_headers(&headers), body }),
        body: translated,
        releases: None,
    };
    let outcome = view::only(api.hub.submit(vec![input]).await?)?;
    Ok(view::json(&OutcomeBody::from(&outcome)))
}

/// The headers that are kept with the raw input: what says which, when and of what version, never what
/// authenticates.
fn kept_headers(headers: &HeaderMap) -> Vec<String> {
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    kept.filter_map(|(name, value)| Some(format!("{name}: {}", value.to_str().ok()?))).collect()
}

/// An allow list: a header of which nothing is known is not kept.
fn is_kept(name: &HeaderName) -> bool {
    const KEPT: [&str; 8] =
        ["webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp", "date", "ce-type", "ce-id", "ce-time"];
    const ENDS: [&str; 12] = [
        "-topic",
        "-event",
        "-event-id",
        "-webhook-id",
        "-delivery",
        "-delivery-id",
        "-triggered-at",
        "-api-version",
        "-shop-domain",
        "-resource",
        "-source",
        "-timestamp",
    ];
    let text = name.as_str();
    name == header::CONTENT_TYPE
        || KEPT.contains(&text)
        || (text.starts_with("x-") && ENDS.iter().any(|e| text.ends_with(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_that_authenticates_is_kept() {
        let kept = |name: &'static str| is_kept(&HeaderName::from_static(name));
        for name in [
            "x-shopify-hmac-sha256",
            "webhook-signature",
            "svix-signature",
            "x-hub-signature-256",
            "authorization",
            "cookie",
            "x-api-key",
            "stripe-signature",
            "x-wc-webhook-signature",
            "proxy-authorization",
            "x-auth-token",
        ] {
            assert!(!kept(name), "{name}");
        }
        for name in [
            "content-type",
            "x-shopify-topic",
            "x-shopify-webhook-id",
            "x-shopify-triggered-at",
            "x-shopify-api-version",
            "x-shopify-shop-domain",
            "webhook-id",
            "x-github-event",
            "x-wc-webhook-topic",
            "x-wc-webhook-source",
            "x-wc-webhook-delivery-id",
        ] {
            assert!(kept(name), "{name}");
        }
    }
}
