//! `GET /v1/entities/{kind}/{key}/explain`: for every field who won, why, and who lost with what.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::Entity;
use lockstep_core::entity::{Claim, FieldState};
use lockstep_core::merge::Rule;
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
    /// The claim that won.
    winner: ClaimBody,
    /// The other systems' claims, which lost.
    losers: Vec<ClaimBody>,
}

/// What one system says of a field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Claim)]
pub(crate) struct ClaimBody {
    /// The system.
    system: String,
    /// What it says.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
    /// When, by its own clock (RFC 3339, UTC).
    #[schema(format = DateTime)]
    occurred_at: String,
    /// Its own version; 0 where it has none.
    sequence: u64,
    /// The record that brought it.
    position: u64,
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
        ("key" = String, Path, description = "The key, percent-encoded where it has a slash"),
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
    let states = match params.text("field") {
        None => entity.fields.as_slice(),
        Some(name) => match entity.field(name) {
            Some(state) => std::slice::from_ref(state),
            None => {
                let detail = format!("`{}` has no field `{name}`", entity.id());
                return Err(Problem::new(Code::UnknownField, detail));
            }
        },
    };
    let fields = states.iter().filter_map(|state| explain(&entity, state)).collect();
    Ok(view::json(&Explanation {
        kind: entity.kind.to_string(),
        key: entity.key.to_string(),
        version: entity.version,
        fields,
    }))
}

fn explain(entity: &Entity, state: &FieldState) -> Option<FieldExplanation> {
    let winning = state.winning()?;
    let rule = Rule::try_from(state.rule).unwrap_or(Rule::Unspecified);
    let system = |claim: &Claim| entity.systems.get(claim.system as usize).map_or("", |name| name.as_str());
    let body = |claim: &Claim, reason| ClaimBody {
        system: system(claim).to_owned(),
        value: view::raw(&claim.json),
        occurred_at: view::time(claim.occurred_at_us),
        sequence: claim.sequence,
        position: claim.position,
        reason,
    };
    let lost = |claim: &Claim| body(claim, Some(why_lost(rule, system(winning), winning, claim)));
    let losers = state.claims.iter().enumerate().filter(|(at, _)| *at != state.winner as usize);
    Some(FieldExplanation {
        field: state.name.to_string(),
        value: view::raw(&winning.json),
        rule: rule.code(),
        reason: rule.reason(),
        winner: body(winning, None),
        losers: losers.map(|(_, claim)| lost(claim)).collect(),
    })
}

/// The rule says what decided among all; this says it of one loser, which may have lost by something else: the
/// one of an older date was not even in the tie.
fn why_lost(rule: Rule, winner: &str, won: &Claim, lost: &Claim) -> String {
    let later = won.occurred_at_us > lost.occurred_at_us;
    match rule {
        Rule::Owner => format!("{winner} owns this field, or stands before it in the list of owners"),
        Rule::HighestState if won.json == lost.json => "it says the same".to_owned(),
        Rule::HighestState => format!("the state that {winner} reports is further along"),
        _ if later => format!("{winner} wrote later"),
        Rule::Priority => format!("written at the same instant; {winner} has the higher priority"),
        _ => format!("written at the same instant with equal priority; the delivery id decided for {winner}"),
    }
}
