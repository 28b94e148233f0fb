//! `/v1/conflicts`: fields of which systems disagree, left to a person.

use axum::extract::State;
use axum::response::Response;
use http::header;
use lockstep_core::Entity;
use lockstep_core::decide::{CONFLICT_KIND, STATUS_FIELD, conflict_key, former_conflict_key, is_conflict_about};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::conflict_diff::{Difference, differences};
use crate::operator::DECISION_FIELD;
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, current, entities, view};

/// How many documents are read at a time while looking for those that are wanted.
const STEP: usize = 500;
/// How many documents one request looks at.
const LOOKED_AT_MAX: usize = 10_000;

/// A field of which systems disagree, or did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
pub(crate) struct ConflictBody {
    /// The entity's kind.
    kind: String,
    /// The entity's key.
    key: String,
    /// The field; a part of a field has its path, such as `customer.email` or `lines[7]`.
    field: String,
    /// `open`: a person is to decide. `resolved`: a person has, or the systems agree by now.
    #[schema(example = "open")]
    pub(crate) status: String,
    /// The policy that leaves it to a person.
    policy: String,
    /// The rule by which the field stood when the conflict last changed, a stable name.
    rule: String,
    /// The value that stood when the conflict last changed; in a single conflict: that stands now.
    #[schema(value_type = serde_json::Value)]
    standing: Box<RawValue>,
    /// What the systems say, as it was when the conflict was last open; the earliest first.
    pub(crate) candidates: Vec<Candidate>,
    /// What a person last did about it: `action` (`prefer`, `value` or `reverse`), `by`, `at`, `reason`, and with
    /// them `system`, `value` and `always`. Null where no person did anything yet.
    #[schema(value_type = Option<serde_json::Value>)]
    decision: Option<Box<RawValue>>,
    /// The version of the conflict: it counts what changed about it.
    version: u64,
    /// When it was first opened (RFC 3339, UTC).
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last changed (RFC 3339, UTC).
    #[schema(format = DateTime)]
    updated_at: String,
}

/// What one system says of a contested field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Candidate {
    /// The system; `@operator` is a person's earlier decision.
    pub(crate) system: String,
    /// What it says.
    #[schema(value_type = serde_json::Value)]
    pub(crate) value: Box<RawValue>,
    /// When it wrote this, by its own clock (RFC 3339, UTC).
    #[schema(format = DateTime)]
    occurred_at: String,
    /// Its own version; 0 where it has none.
    sequence: u64,
}

/// A candidate as it is kept.
#[derive(Deserialize)]
struct Kept {
    system: String,
    value: Box<RawValue>,
    occurred_at_us: i64,
    sequence: u64,
}

/// A part of the conflicts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConflictList {
    /// By kind, key and field.
    items: Vec<ConflictBody>,
    /// Where the next part goes on; null at the end. A part with few items, even with none, is not the end.
    next_after: Option<String>,
}

/// A conflict with all that is needed to decide it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConflictDetail {
    #[serde(flatten)]
    conflict: ConflictBody,
    /// The entity's version.
    entity_version: u64,
    /// Where the candidates' values differ: in objects member by member, else as a whole.
    differences: Vec<Difference>,
}

impl From<&Entity> for ConflictBody {
    fn from(conflict: &Entity) -> Self {
        let json = |name: &str| conflict.value(name).map(|json| json.as_ref());
        let text = |name: &str| json(name).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
        let kept: Vec<Kept> = json("candidates").and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
        let candidate = |kept: Kept| Candidate {
            system: kept.system,
            value: kept.value,
            occurred_at: view::time(kept.occurred_at_us),
            sequence: kept.sequence,
        };
        Self {
            kind: text("entity_kind"),
            key: text("entity_key"),
            field: text("field"),
            status: text(STATUS_FIELD),
            policy: text("policy"),
            rule: text("rule"),
            standing: view::raw(json("standing").unwrap_or_default()),
            candidates: kept.into_iter().map(candidate).collect(),
            decision: json(DECISION_FIELD).map(view::raw),
            version: conflict.version,
            created_at: view::time(conflict.created_at_us),
            updated_at: view::time(conflict.updated_at_us),
        }
    }
}

impl ConflictBody {
    /// Whether a person is to decide.
    pub(crate) fn is_open(&self) -> bool {
        self.status == "open"
    }

    /// Whether its policy is the one for which a system can be preferred.
    pub(crate) fn is_reviewed(&self) -> bool {
        self.policy == "review"
    }
}

/// A conflict and the entity that it is about.
pub(crate) struct Found {
    pub(crate) conflict: Arc<Entity>,
    pub(crate) entity: Arc<Entity>,
    pub(crate) field: String,
}

impl Found {
    pub(crate) fn detail(&self) -> ConflictDetail {
        let mut conflict = ConflictBody::from(&*self.conflict);
        let now = self.entity.value(&self.field).map(|json| json.as_ref()).unwrap_or_default();
        conflict.standing = view::raw(now);
        let said: Vec<(&str, &RawValue)> = conflict.candidates.iter().map(|c| (c.system.as_str(), &*c.value)).collect();
        let differences = differences(&said);
        ConflictDetail { conflict, entity_version: self.entity.version, differences }
    }
}

/// The conflict about a field.
pub(crate) async fn find(api: &Api, (kind, key, field): &(String, String, String)) -> Result<Found, Problem> {
    let of = conflict_key(kind, key, field);
    let unknown =
        || Problem::new(Code::UnknownConflict, format!("there is no conflict about `{field}` of `{kind}/{key}`"));
    let mut conflict = current::ask(|| api.hub.entity(CONFLICT_KIND, &of)).await?;
    if let (None, Some(former)) = (&conflict, former_conflict_key(kind, key, field)) {
        let known = current::ask(|| api.hub.entity(CONFLICT_KIND, &former)).await?;
        conflict = known.filter(|conflict| is_conflict_about(conflict, key, field));
    }
    let conflict = conflict.ok_or_else(unknown)?;
    let entity = current::ask(|| api.hub.entity(kind, key)).await?.ok_or_else(unknown)?;
    Ok(Found { conflict, entity, field: field.clone() })
}

/// Conflicts, by kind, key and field; the open ones where nothing else is asked for.
///
/// A resolved conflict is kept, so looking for open ones takes time with the number of all conflicts that there ever
/// were (of that kind), not with the number of entities. One request looks at 10000 of them at most.
#[utoipa::path(
    get,
    path = "/v1/conflicts",
    operation_id = "listConflicts",
    tag = "conflicts",
    params(
        ("status" = Option<String>, Query, description = "`open` (where it is absent), `resolved` or `all`"),
        ("kind" = Option<String>, Query, description = "Only those about entities of this kind"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the part before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list", body = ConflictList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["status", "kind", "after", "limit"])?;
    let status = params.text("status").unwrap_or("open");
    if !["open", "resolved", "all"].contains(&status) {
        let detail = format!("`status` must be `open`, `resolved` or `all`, not `{status}`");
        return Err(Problem::parameter("status", detail));
    }
    let prefix = match params.text("kind") {
        None => String::new(),
        Some(kind) => {
            lockstep_core::change::check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
            format!("{kind}/")
        }
    };
    let limit = params.limit(100, 1000)?;
    // Keys begin with the entity's kind, and are sorted.
    let after = params.text("after").unwrap_or_default().max(prefix.as_str());
    let is_wanted = |conflict: &ConflictBody| status == "all" || conflict.status == status;
    let (items, next_after) = part(&api, (CONFLICT_KIND, &prefix), after, limit, |conflict| {
        Some(ConflictBody::from(conflict)).filter(is_wanted)
    })
    .await?;
    Ok(view::json(&ConflictList { items, next_after }))
}

/// A part of the hub's own documents of a kind: those that are wanted, among a bounded number. They are asked for in
/// small steps, so that the loop decides in between.
pub(crate) async fn part<T>(
    api: &Api,
    (kind, prefix): (&str, &str),
    after: &str,
    limit: usize,
    wanted: impl Fn(&Entity) -> Option<T>,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let (mut items, mut after, mut looked_at) = (Vec::new(), after.to_owned(), 0);
    loop {
        let page = current::ask(|| api.hub.entities(kind, &after, STEP)).await?;
        for (at, document) in page.items.iter().enumerate() {
            if !document.key.starts_with(prefix) {
                return Ok((items, None));
            }
            items.extend(wanted(document));
            looked_at += 1;
            if items.len() == limit || looked_at == LOOKED_AT_MAX {
                let more = page.more || at + 1 < page.items.len();
                return Ok((items, more.then(|| document.key.to_string())));
            }
        }
        match page.items.last() {
            Some(last) if page.more => after = last.key.to_string(),
            _ => return Ok((items, None)),
        }
    }
}

/// A conflict with the differences between what the systems say.
#[utoipa::path(
    get,
    path = "/v1/conflicts/{kind}/{key}/{field}",
    operation_id = "getConflict",
    tag = "conflicts",
    params(
        ("kind" = String, Path, description = "The entity's kind"),
        ("key" = String, Path, description = "The entity's key, percent-encoded where it has a slash"),
        ("field" = String, Path, description = "The field, or the path of its part: `customer.email`, `lines[7]`; percent-encoded"),
    ),
    responses(
        (status = 200, description = "The conflict; its `ETag` is its version in quotes", body = ConflictDetail, headers(("ETag" = String, description = "The conflict's version in quotes"))),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conflict", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String, String)>,
) -> Result<Response, Problem> {
    let found = find(&api, &name).await?;
    let mut response = view::json(&found.detail());
    response.headers_mut().extend(entities::etag(found.conflict.version).map(|tag| (header::ETAG, tag)));
    Ok(response)
}
