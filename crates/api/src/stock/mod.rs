//! Stock: reservations, what may be sold, what lies where and why, and the settings behind it.
//!
//! Quantities are whole numbers in the SKU's base unit times ten to the power of its `qty_scale`. Every write needs an
//! `Idempotency-Key`, goes through the hub's loop and is answered when it is durable.

pub(crate) mod availability;
pub(crate) mod facts;
pub(crate) mod ledger;
pub(crate) mod location;
pub(crate) mod reservations;
pub(crate) mod settings;
pub(crate) mod steps;

use std::collections::BTreeMap;

use axum::response::Response;
use http::HeaderMap;
use lockstep_core::stock::{Answer, Command, StockRefusal};
use lockstep_core::{Input, InputBody, Outcome, Position, QuarantineReason};
use lockstep_hub::{After, now_us};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Documented, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::auth::{Writer, speaks_for};
use crate::keys::Key;
use crate::problem::{Code, Problem};
use crate::trace::Trace;
use crate::{Api, events, view};

/// The most SKUs of one question, over HTTP and gRPC.
pub const SKUS_MAX: usize = 1_000;
/// The most holders that are named for a location, over HTTP and gRPC.
pub const HOLDERS_MAX: usize = 100;

/// A request to stock, before it is known what it comes to.
pub struct Ask {
    source: String,
    system: String,
    key: String,
    payload_hash: u64,
    trace: String,
    /// When it came, microseconds since 1970 UTC.
    pub received_at_us: i64,
}

/// What became of a request.
pub enum Said {
    /// It was decided now.
    Now {
        /// Its first record; 0 where it changed nothing.
        position: Position,
        /// What became of each command.
        answers: Vec<Result<Answer, StockRefusal>>,
    },
    /// The same request came before, and has the record `of`.
    Before {
        /// Its first record.
        of: Position,
    },
}

impl Ask {
    /// `payload` is all of the request that must be the same in a repetition.
    pub(super) fn new(caller: &Writer, headers: &HeaderMap, payload: &[&[u8]]) -> Result<Self, Problem> {
        Self::of(&caller.0, events::required_key(headers)?, &payload.join(&0), Trace::of(headers).into_string())
    }

    /// The same of a request that did not come over HTTP: with its key, checked already, and its trace.
    pub fn of(caller: &Key, key: String, payload: &[u8], trace: String) -> Result<Self, Problem> {
        let (source, system) = speaks_for(caller)?;
        Ok(Self {
            source: source.to_owned(),
            system: system.to_owned(),
            key,
            payload_hash: lockstep_core::payload_hash(payload),
            trace,
            received_at_us: now_us(),
        })
    }

    /// The system that speaks.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// An id that is the same in every repetition of the request.
    pub(super) fn derived_id(&self) -> String {
        format!("r-{:016x}", lockstep_core::delivery_hash(&self.source, &self.key))
    }

    /// The request's key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Gives the commands to the hub. A single one that is refused is a problem.
    pub async fn say(&self, api: &Api, commands: Vec<Command>) -> Result<Said, Problem> {
        self.said(api.hub.submit(vec![self.input(commands)]).await?)
    }

    /// The same of commands about a reservation; gives how it stands after them, with what may be sold of its SKUs where
    /// that is wanted.
    pub async fn say_about(
        &self,
        api: &Api,
        commands: Vec<Command>,
        id: &str,
        with_facts: bool,
    ) -> Result<(Said, After), Problem> {
        let (answers, after) = api.hub.submit_about(vec![self.input(commands)], id, with_facts).await?;
        let said = self.said(answers)?;
        match after {
            Some(after) => Ok((said, after)),
            None => Ok((said, reservations::after(api, id, with_facts).await?)),
        }
    }

    fn input(&self, commands: Vec<Command>) -> Input {
        Input {
            source: self.source.clone(),
            system: self.system.clone(),
            delivery: format!("stock|{}", self.key),
            payload_hash: self.payload_hash,
            reject_reuse: true,
            request_key: None,
            received_at_us: self.received_at_us,
            trace: Some(self.trace.clone()),
            raw: None,
            body: InputBody::Stock(commands),
            releases: None,
        }
    }

    fn said(&self, answers: Vec<lockstep_hub::Answer>) -> Result<Said, Problem> {
        match events::answer_to_key(view::only(answers), &self.key)? {
            Outcome::Stock { position, answers, .. } => {
                if let [Ok(Answer::Quarantined(reason))] = answers.as_slice() {
                    return Err(doubtful(reason));
                }
                Ok(Said::Now { position, answers })
            }
            Outcome::Duplicate { of } => Ok(Said::Before { of }),
            _ => Err(Problem::new(Code::ReadFailed, "the answer was lost")),
        }
    }

    /// The same, of a single command without more to tell.
    pub(super) async fn one(&self, api: &Api, command: Command) -> Result<Response, Problem> {
        let done = match self.say(api, vec![command]).await? {
            Said::Before { of } => StockOutcome { outcome: "duplicate", position: Some(of) },
            Said::Now { position, answers } => {
                let outcome = match answers.as_slice() {
                    [Ok(Answer::Repeated)] => "repeated",
                    [Ok(Answer::Ignored)] => "ignored",
                    _ => "applied",
                };
                StockOutcome { outcome, position: (position != 0).then_some(position) }
            }
        };
        Ok(view::json(&done))
    }
}

fn doubtful(reason: &QuarantineReason) -> Problem {
    let code = if reason.code == "clock-skew" { Code::ClockSkew } else { Code::StockDoubtful };
    let problem = Problem::new(code, reason.detail.clone()).with("reason", reason.code.clone());
    if reason.at.is_empty() { problem } else { problem.with("pointer", reason.at.clone()) }
}

/// What became of a fact or a setting.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StockOutcome {
    /// `applied`: it had an effect. `repeated`: it was so already. `ignored`: older than what is known, recorded without
    /// an effect. `duplicate`: the same request came before.
    #[schema(example = "applied")]
    outcome: &'static str,
    /// Its first record; absent where nothing was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

/// Reads a quantity; a fraction is refused with a sentence that says what it must be.
pub(super) fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Whole;

    impl serde::de::Visitor<'_> for Whole {
        type Value = i64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("`quantity` as a whole number, in the SKU's base unit x 10^`qty_scale`")
        }

        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            i64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
        }
    }

    deserializer.deserialize_i64(Whole)
}

/// A time of a body; where it is absent, that of the request.
pub(super) fn time_of(name: &str, text: Option<&str>, now_us: i64) -> Result<i64, Problem> {
    let Some(text) = text else { return Ok(now_us) };
    lockstep_connect::time::parse_rfc3339(text).ok_or_else(|| {
        let detail =
            format!("`{name}` must be a time after RFC 3339, for example `2026-03-01T09:30:00Z`, not `{text}`");
        Problem::new(Code::StockInvalid, detail).with("pointer", format!("/{name}")).with("reason", "must be a time")
    })
}

fn said_no(problems: &[(u16, &str)]) -> BTreeMap<String, RefOr<Documented>> {
    let one = |(status, description): &(u16, &str)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(*description);
        (status.to_string(), response.content("application/problem+json", content).build().into())
    };
    problems.iter().map(one).collect()
}

/// The ways in which a question about stock is answered with no.
pub(crate) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        said_no(&[
            (400, "A parameter is not valid"),
            (401, "No valid key"),
            (403, "The key may not read"),
            (503, "The hub can't answer now"),
        ])
    }
}

/// The ways in which a request to stock is answered with no.
pub(crate) struct WriteProblems;

impl IntoResponses for WriteProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        said_no(&[
            (400, "The body, a header or a parameter is missing or not valid"),
            (401, "No valid key"),
            (403, "The key may not write, or speaks for no system"),
            (404, "There is no such reservation, or it has been over for longer than `stock.reservation_days`"),
            (408, "The body did not arrive in time"),
            (
                409,
                "There is not enough (`shortfalls` says of what), the reservation does not allow it (`state` says where it stands), or a count contradicts another one",
            ),
            (413, "The body is too large"),
            (415, "Not JSON by its content type"),
            (
                422,
                "A field is not valid (`pointer` and `reason` say which and why), or the key was used with other content",
            ),
            (429, "The hub is saturated; `Retry-After` says when to try again"),
            (503, "The hub can't write now"),
        ])
    }
}
