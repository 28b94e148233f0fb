//! What a person decides: an input like any other, of the system `@operator`, with who it was and why.

use axum::body::Body;
use http::HeaderMap;
use lockstep_core::merge::OPERATOR;
use lockstep_core::{Change, Entity, Field, Input, InputBody, Outcome, Refusal};
use lockstep_hub::{Answer, now_us};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::auth::Operator;
use crate::problem::{Code, Problem};
use crate::trace::Trace;
use crate::{Api, body, entities, events, view};

/// The field of a conflict or preference that tells what a person last did about it. Each value is new, since it has
/// its time in it, so that the latest one always wins.
pub(crate) const DECISION_FIELD: &str = "decision";

/// What a person says, before it is known what it changes.
pub(crate) struct Word {
    delivery: String,
    payload_hash: u64,
    trace: String,
    request_key: String,
    by: String,
    /// When it came.
    pub(crate) received_at_us: i64,
}

impl Word {
    /// The word of a request. `payload` is all of the request that must be the same in a repetition.
    pub(crate) fn new(caller: &Operator, headers: &HeaderMap, payload: &[&[u8]]) -> Result<Self, Problem> {
        let Some(request_key) = events::idempotency_key(headers)? else {
            let detail = "send an `Idempotency-Key`, so that a repetition of this request is known as one";
            return Err(Problem::new(Code::IdempotencyKeyMissing, detail));
        };
        Ok(Self {
            // All persons speak for one system; each has idempotency keys of their own.
            delivery: format!("{}|{request_key}", caller.0.id),
            payload_hash: lockstep_core::payload_hash(&payload.join(&0)),
            trace: Trace::of(headers).into_string(),
            request_key,
            by: caller.0.name.clone(),
            received_at_us: now_us(),
        })
    }

    /// The decision as it is kept: what was done, by whom, when and why.
    pub(crate) fn decision<const N: usize>(&self, action: &str, reason: &str, more: [(&str, Value); N]) -> Field {
        let mut decision: Map<String, Value> = more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        decision.insert("action".into(), action.into());
        decision.insert("at".into(), view::time(self.received_at_us).into());
        decision.insert("by".into(), self.by.as_str().into());
        decision.insert("reason".into(), reason.into());
        Field::new(DECISION_FIELD, entities::compact(&Value::Object(decision)))
    }

    /// Gives changes to the hub. `None`: a document has another version than they expect.
    pub(crate) async fn say(&self, api: &Api, changes: Vec<Change>) -> Result<Option<Outcome>, Problem> {
        match self.submit(api, changes).await? {
            Ok(outcome) => Ok(Some(outcome)),
            Err(Refusal::Version { .. }) => Ok(None),
            Err(refusal @ Refusal::KeyReused { .. }) => {
                let detail =
                    format!("the `Idempotency-Key` `{}` was used before with another payload", self.request_key);
                Err(Problem::from(refusal).with_detail(detail))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// What this request is answered with that can't be done (any more): `duplicate` where it was done before.
    pub(crate) async fn or_repeated(&self, api: &Api, problem: Problem) -> Result<Outcome, Problem> {
        // No document ever has this version, so that nothing but a repetition gets through.
        let never = Change { expected_version: Some(u64::MAX), ..change("conflict", "", 0, Vec::new()) };
        self.say(api, vec![never]).await?.ok_or(problem)
    }

    async fn submit(&self, api: &Api, changes: Vec<Change>) -> Result<Answer, Problem> {
        let input = Input {
            source: OPERATOR.to_owned(),
            system: OPERATOR.to_owned(),
            delivery: self.delivery.clone(),
            payload_hash: self.payload_hash,
            reject_reuse: true,
            request_key: None,
            received_at_us: self.received_at_us,
            trace: Some(self.trace.clone()),
            raw: None,
            body: InputBody::Changes(changes),
            releases: None,
        };
        let answer = api.hub.submit(vec![input]).await?.into_iter().next();
        answer.ok_or_else(|| Problem::new(Code::ShuttingDown, "the hub ended before it could answer"))
    }
}

/// A change of the hub's own documents and of single fields: no key of them is too long, since they are made of
/// others.
pub(crate) fn change(kind: &str, key: &str, occurred_at_us: i64, mut fields: Vec<Field>) -> Change {
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Change { kind: kind.to_owned(), key: key.to_owned(), sequence: 0, occurred_at_us, fields, expected_version: None }
}

/// When a person's word on a field is said: now, but after all that was said before, also where a system's clock
/// is ahead of ours or ours was set back. A person decides about what is there.
pub(crate) fn after(entity: Option<&Entity>, field: &str, now_us: i64) -> i64 {
    let Some((entity, field)) = entity.and_then(|entity| Some((entity, entity.field(field)?))) else { return now_us };
    let last = field.claims.iter().map(|claim| entity.stamps[claim.last(&entity.stamps)].occurred_at_us).max();
    last.map_or(now_us, |last| now_us.max(last.saturating_add(1)))
}

/// A JSON body of a request that takes nothing else.
pub(crate) async fn read<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    form: &str,
) -> Result<(T, bytes::Bytes), Problem> {
    entities::json_content(headers)?;
    let body = body::read(headers, body, api.options.body_bytes_max, &api.options).await?;
    match serde_json::from_slice(&body) {
        Ok(value) => Ok((value, body)),
        Err(error) => Err(Problem::new(Code::InvalidBody, format!("the body must be `{form}`: {error}"))),
    }
}

/// Refuses a reason that says nothing.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    if reason.trim().is_empty() {
        return Err(Problem::new(Code::InvalidBody, "`reason` must say why").with("pointer", "/reason"));
    }
    Ok(())
}
