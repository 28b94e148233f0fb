//! `GET /v1/entities/{kind}/{key}/history`: everything that was said of an entity and what became of it.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::merge::Rule;
use lockstep_core::record::{Body, Fact, FactOutcome};
use lockstep_core::{Entity, Position};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::{Params, Segments};
use crate::problem::{Problem, ProblemBody};
use crate::view::{self, Fields};
use crate::{Api, entities};

/// A part of an entity's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// Its kind.
    kind: String,
    /// Its key.
    key: String,
    /// What was said, newest first.
    items: Vec<HistoryItem>,
    /// Where the next part goes on; null at the beginning of the entity or of what is kept.
    next_from: Option<u64>,
}

/// One change and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// Its record.
    position: u64,
    /// When the hub decided it (RFC 3339, UTC).
    #[schema(format = DateTime)]
    recorded_at: String,
    /// When the hub received it (RFC 3339, UTC).
    #[schema(format = DateTime)]
    received_at: String,
    /// When it happened by the source's clock (RFC 3339, UTC).
    #[schema(format = DateTime)]
    occurred_at: String,
    /// The way in.
    source: String,
    /// The system that said it.
    system: String,
    /// The delivery's id.
    delivery: String,
    /// The source's own version; 0 where it has none.
    sequence: u64,
    /// `applied` or `superseded`.
    outcome: &'static str,
    /// The entity's version after it.
    version: u64,
    /// The type of the published event, where the document changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// The fields whose winning value changed.
    changed: Vec<String>,
    /// What was said.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    fields: Fields,
    /// Who won each field, and why.
    rulings: Vec<RulingBody>,
    /// The W3C `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    /// The key by which it was said, where that is one of an entity that is merged into this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    /// What it says of a merge: `merged` (into another one), `unmerged`, `joined` (by another one), `parted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: Option<MergeStep>,
    /// The quarantined record that this one released.
    #[serde(skip_serializing_if = "Option::is_none")]
    releases: Option<u64>,
}

/// A step of a merge, or of its undoing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MergeStep {
    /// `merged`, `unmerged`, `joined` or `parted`.
    #[schema(example = "joined")]
    action: &'static str,
    /// The keys of the other entities, where the record names them.
    keys: Vec<String>,
}

impl MergeStep {
    fn of(fact: &Fact) -> Option<Self> {
        let step = |action, keys| Some(Self { action, keys });
        match &fact.merged {
            Some(into) if into.is_empty() => return step("unmerged", Vec::new()),
            Some(into) => return step("merged", vec![into.clone()]),
            None => {}
        }
        if !fact.joins.is_empty() {
            let member = Entity::decode(fact.joins.clone()).ok().map(|member| member.key.to_string());
            return step("joined", member.into_iter().collect());
        }
        if fact.parts.is_empty() { None } else { step("parted", fact.parts.clone()) }
    }
}

/// Why some fields went as they did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ruling)]
pub(crate) struct RulingBody {
    /// The fields.
    fields: Vec<String>,
    /// The system that won.
    winner: String,
    /// The rule that decided, a stable name.
    rule: &'static str,
    /// The same in words.
    reason: &'static str,
    /// The system itself had said something newer: what it said here was not taken.
    stale: bool,
}

/// What was said of an entity, newest first.
#[utoipa::path(
    get,
    path = "/v1/entities/{kind}/{key}/history",
    operation_id = "getEntityHistory",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key, percent-encoded where it has a slash"),
        ("from" = Option<u64>, Query, description = "Where to go on: `next_from` of the part before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 50 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the history", body = History),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such entity", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["from", "limit"])?;
    let limit = params.limit(50, 1000)?;
    let entity = entities::named(&api, &name).await?;
    let from = params.position("from")?.unwrap_or(entity.position);
    let (records, next) = api.hub.history(from, limit).await?;
    let mut items = Vec::with_capacity(records.len());
    for (position, record) in records {
        let recorded_at_us = record.recorded_at_us;
        match record.body {
            Some(Body::Fact(fact)) if entity.kind == fact.kind.as_str() && entity.key == fact.key.as_str() => {
                items.push(item(position, recorded_at_us, &fact));
            }
            _ => {
                let detail = format!("record {position} is not part of the history of `{}`", entity.id());
                return Err(Problem::parameter("from", detail));
            }
        }
    }
    let next_from = (next != 0).then_some(next);
    Ok(view::json(&History { kind: entity.kind.to_string(), key: entity.key.to_string(), items, next_from }))
}

fn item(position: Position, recorded_at_us: i64, fact: &Fact) -> HistoryItem {
    let names = |numbers: &[u32]| -> Vec<String> {
        numbers.iter().filter_map(|at| Some(fact.fields.get(*at as usize)?.name.to_string())).collect()
    };
    let rulings = fact.rulings.iter().map(|ruling| {
        let rule = Rule::try_from(ruling.rule).unwrap_or(Rule::Unspecified);
        RulingBody {
            fields: if ruling.fields.is_empty() {
                fact.fields.iter().map(|f| f.name.to_string()).collect()
            } else {
                names(&ruling.fields)
            },
            winner: if ruling.winner.is_empty() { fact.system.clone() } else { ruling.winner.clone() },
            rule: rule.code(),
            reason: if ruling.stale { "the same system has said something newer" } else { rule.reason() },
            stale: ruling.stale,
        }
    });
    let rulings = rulings.collect();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    HistoryItem {
        position,
        recorded_at: view::time(recorded_at_us),
        received_at: view::time(fact.received_at_us),
        occurred_at: view::time(fact.occurred_at_us),
        sequence: fact.sequence,
        outcome: if fact.outcome == FactOutcome::Applied as i32 { "applied" } else { "superseded" },
        version: fact.version,
        event_type: some(&fact.event_type),
        changed: names(&fact.changed),
        fields: fact.fields.iter().map(|f| (f.name.to_string(), view::raw(&f.json))).collect(),
        rulings,
        trace: some(&fact.trace),
        via: some(&fact.via),
        merge: MergeStep::of(fact),
        releases: (fact.releases != 0).then_some(fact.releases),
        source: fact.source.clone(),
        system: fact.system.clone(),
        delivery: fact.delivery.clone(),
    }
}
