//! `GET /v1/entities/{kind}/{key}/explain`: for every field who won, why, and who lost with what.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::Entity;
use lockstep_core::decide::HUB;
use lockstep_core::entity::{Claim, FieldState, base_system, member_of};
use lockstep_core::merge::Rule;
use lockstep_core::path::base_of;
use lockstep_core::record::Body;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, entities, view};

/// Why an entity is as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// Its kind.
    kind: String,
    /// Its key.
    key: String,
    /// Its version.
    version: u64,
    /// The keys of the entities that are merged into it. Absent where none are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<String>,
    /// Its fields, sorted by name.
    fields: Vec<FieldExplanation>,
}

/// Why a field is as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldExplanation {
    /// Its name.
    field: String,
    /// Its value.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
    /// The rule that decided, a stable name.
    #[schema(example = "owner")]
    rule: &'static str,
    /// The same in words.
    reason: &'static str,
    /// The record since which this value stands.
    since_position: u64,
    /// The claim that won; absent where nobody says anything of the field any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    winner: Option<ClaimBody>,
    /// The other systems' claims, which lost.
    losers: Vec<ClaimBody>,
}

/// What one system says of a field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Claim)]
pub(crate) struct ClaimBody {
    /// The system.
    system: String,
    /// The key by which it says so, where that is one of an entity that is merged into this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// What it says.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
    /// When it wrote this, by its own clock (RFC 3339, UTC): when it was first seen to say so without anything else
    /// since.
    #[schema(format = DateTime)]
    occurred_at: String,
    /// When it last said so, by its own clock (RFC 3339, UTC).
    #[schema(format = DateTime)]
    seen_at: String,
    /// Its own version; 0 where it has none.
    sequence: u64,
    /// The record that brought it.
    position: u64,
    /// Of what the hub itself says, where one field is asked for: the delivery in whose course it said so, as
    /// `source/delivery`; `@hub/stock-came|...` where stock came for an order. Absent where its record is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<String>,
    /// Why it lost, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// For every field the winning claim, the rule that decided, and the claims that lost.
#[utoipa::path(
    get,
    path = "/v1/entities/{kind}/{key}/explain",
    operation_id = "explainEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key, or what a system calls it (`@shop/order_id/1001`); percent-encoded where it has a slash"),
        ("field" = Option<String>, Query, description = "Only this field"),
    ),
    responses(
        (status = 200, description = "The explanation", body = Explanation),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such entity or field", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["field"])?;
    let entity = entities::find(&api, &name).await?;
    let wanted = params.text("field");
    // Of a field that is merged by its parts, all parts are told.
    let is_wanted = |state: &&FieldState| wanted.is_none_or(|name| state.name == name || base_of(&state.name) == name);
    // What the hub itself has concluded once and does not any more is nothing to be told.
    let is_told = |state: &&FieldState| {
        state.winning().is_some() || state.claims.iter().any(|claim| base_system(entity.system(claim.system)) != HUB)
    };
    let states: Vec<&FieldState> = entity.fields.iter().filter(is_wanted).filter(is_told).collect();
    if let (Some(name), []) = (wanted, states.as_slice()) {
        return Err(Problem::new(Code::UnknownField, format!("`{}` has no field `{name}`", entity.id())));
    }
    let mut fields: Vec<FieldExplanation> = states.into_iter().map(|state| explain(&entity, state)).collect();
    // Each is a look into the journal.
    let own = fields.iter_mut().filter(|_| wanted.is_some()).filter_map(|field| field.winner.as_mut());
    for claim in own.filter(|claim| claim.system == HUB) {
        if let Some(Body::Fact(fact)) = api.hub.record(claim.position).await?.and_then(|record| record.body) {
            claim.delivery = Some(format!("{}/{}", fact.source, fact.delivery));
        }
    }
    Ok(view::json(&Explanation {
        kind: entity.kind.to_string(),
        key: entity.key.to_string(),
        version: entity.version,
        members: entity.members().into_iter().map(str::to_owned).collect(),
        fields,
    }))
}

fn explain(entity: &Entity, state: &FieldState) -> FieldExplanation {
    let rule = Rule::try_from(state.rule).unwrap_or(Rule::Unspecified);
    let body = |claim: &Claim, reason| {
        // A system that says nothing any more did so last by its latest deletion or list, whichever it was that was
        // heard of first.
        let silence = entity.silence(claim.system, &state.name).filter(|_| claim.json.is_empty());
        let start = &entity.stamps[silence.unwrap_or(claim.start)];
        let seen = &entity.stamps[silence.unwrap_or_else(|| claim.last(&entity.stamps))];
        ClaimBody {
            system: base_system(entity.system(claim.system)).to_owned(),
            member: member_of(entity.system(claim.system)).map(str::to_owned),
            value: view::raw(&claim.json),
            occurred_at: view::time(start.occurred_at_us),
            sequence: start.sequence,
            position: start.position,
            seen_at: view::time(seen.occurred_at_us),
            delivery: None,
            reason,
        }
    };
    let lost = |claim: &Claim| body(claim, Some(why_lost(entity, state, rule, claim)));
    let losers = state.claims.iter().enumerate().filter(|(at, _)| *at != state.winner as usize);
    FieldExplanation {
        field: state.name.to_string(),
        value: view::raw(state.value().map(|json| json.as_ref()).unwrap_or_default()),
        rule: rule.code(),
        reason: rule.reason(),
        since_position: state.since,
        winner: state.winning().map(|claim| body(claim, None)),
        losers: losers.map(|(_, claim)| lost(claim)).collect(),
    }
}

/// The rule says what decided among all; this says it of one loser, which may have lost by something else: the
/// one of an older date was not even in the tie.
fn why_lost(entity: &Entity, state: &FieldState, rule: Rule, lost: &Claim) -> String {
    if lost.json.is_empty() {
        return "it says nothing of this field any more".to_owned();
    }
    if lost.echo {
        return "it has what it was sent, and claims nothing".to_owned();
    }
    let Some(won) = state.winning() else { return rule.reason().to_owned() };
    let winner = entity.system(won.system);
    let same = won.json == lost.json;
    if base_system(winner) == base_system(entity.system(lost.system)) {
        let said_of = member_of(winner).unwrap_or(&entity.key);
        return match same {
            true => format!("it says the same of {said_of}"),
            false => format!("what it says of {said_of} is newer, or further along"),
        };
    }
    let version = |claim: &Claim| entity.stamps[claim.last(&entity.stamps)].sequence;
    let wrote = |claim: &Claim| entity.stamps[claim.start].occurred_at_us;
    match rule {
        Rule::Owner => format!("{winner} owns this field, or stands before it in the list of owners"),
        Rule::Union => "the value has its members too".to_owned(),
        Rule::Agreed => format!("it says the same as {winner}, which said it first"),
        Rule::Contested if same => "it says the same".to_owned(),
        Rule::Contested => format!("it disagrees with {winner}; a person is to decide"),
        Rule::Resolved => "a person has decided".to_owned(),
        Rule::Preferred => format!("a person has decided that {winner} is always preferred"),
        Rule::HighestState | Rule::Greatest | Rule::Least if same => "it says the same".to_owned(),
        Rule::HighestState => format!("the state that {winner} reports is further along"),
        Rule::Greatest => format!("the value of {winner} is greater"),
        Rule::Least => format!("the value of {winner} is less"),
        Rule::HighestVersion => format!("{winner} has version {}, it has {}", version(won), version(lost)),
        _ if wrote(won) > wrote(lost) => format!("{winner} wrote later"),
        Rule::Priority => format!("written at the same instant; {winner} has the higher priority"),
        _ => format!("written at the same instant with equal priority; the delivery id decided for {winner}"),
    }
}
