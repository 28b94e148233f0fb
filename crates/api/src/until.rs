//! `until=delivered:search,cache` with `Prefer: wait=2` (RFC 7240): a writer who waits until destinations have his change.
//! The commit stands, whatever comes of the waiting.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use lockstep_core::{Outcome, Position};
use lockstep_hub::Answer;
use lockstep_hub::delivery::Reached;
use serde::Serialize;
use utoipa::ToSchema;

use crate::params::Params;
use crate::problem::{Code, Problem};
use crate::propagation::StandingBody;
use crate::{Api, destinations};

/// How long a writer waits who does not say for how long,
const WAIT_S: u64 = 10;
/// and at most.
pub(crate) const WAIT_MAX_S: u64 = 60;

/// What a writer waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Until {
    /// The destinations.
    names: Vec<String>,
    /// For how long.
    wait: Duration,
    /// Whether he said so.
    preferred: bool,
}

/// What waiting came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reached)]
pub(crate) struct ReachedBody {
    /// Whether each destination that was named has confirmed each event, or a newer one of its entity that was sent
    /// instead.
    delivered: bool,
    /// How many events were to be confirmed by each: those that this request published. Where it changed nothing, the
    /// last event of its entity.
    events: usize,
    /// The destinations that were waited for.
    destinations: Vec<String>,
    /// How long it took, in milliseconds.
    waited_ms: u64,
    /// Whether nothing was waited for, because too many wait already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    crowded: bool,
    /// How many confirmations are missing.
    missing: usize,
    /// What is missing, the oldest first; the first 100.
    unreached: Vec<UnreachedBody>,
}

/// An event that a destination has not confirmed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unreached)]
pub(crate) struct UnreachedBody {
    /// The event; its propagation tells how it goes on.
    event: u64,
    #[serde(flatten)]
    standing: StandingBody,
}

impl Until {
    /// What a request asks for. Destinations that are not there are refused.
    pub(crate) fn of(api: &Api, params: &Params, headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(until) = params.text("until") else { return Ok(None) };
        let form = "`until` must be `delivered:` and the names of destinations, with commas between them";
        let Some(list) = until.strip_prefix("delivered:").filter(|list| !list.is_empty()) else {
            return Err(Problem::parameter("until", format!("{form}, not `{until}`")));
        };
        let mut names: Vec<String> = Vec::new();
        for name in list.split(',').map(str::trim) {
            if name.is_empty() || names.iter().any(|other| other == name) {
                return Err(Problem::parameter("until", format!("{form}, each of them once, not `{until}`")));
            }
            destinations::check_known(api, name)?;
            names.push(name.to_owned());
        }
        let running = api.hub.destinations();
        if let Some(name) = names.iter().find(|name| !running.contains(name)) {
            let detail = format!("deliveries to `{name}` are not running: it can't be waited for");
            return Err(Problem::new(Code::DestinationNotRunning, detail));
        }
        let preferred = preferred_wait(headers);
        let wait = Duration::from_secs(preferred.unwrap_or(WAIT_S).min(WAIT_MAX_S));
        Ok(Some(Self { names, wait, preferred: preferred.is_some() }))
    }

    /// What was preferred and is honoured.
    pub(crate) fn applied(&self) -> Option<HeaderValue> {
        let value = HeaderValue::from_str(&format!("wait={}", self.wait.as_secs())).ok();
        value.filter(|_| self.preferred)
    }

    /// Waits for what these answers have published. `entities` are the kind and key of each.
    pub(crate) async fn wait(
        self,
        api: &Api,
        answers: &[Answer],
        entities: &[(String, String)],
    ) -> Result<ReachedBody, Problem> {
        let began = Instant::now();
        let mut events: Vec<Position> = Vec::new();
        for (answer, (kind, key)) in answers.iter().zip(entities) {
            let records = match answer {
                Ok(Outcome::Applied { position, count, .. } | Outcome::Superseded { position, count }) => {
                    (*position, *count)
                }
                // Its events may be those of the entity's later changes by now; those say all that it said.
                Ok(Outcome::Duplicate { .. }) => (0, 0),
                Ok(Outcome::Stock { position, count, .. }) => (*position, *count),
                Ok(Outcome::Quarantined { .. }) | Err(_) => continue,
            };
            events.extend(api.hub.events_of(records, (kind, key)).await?);
        }
        events.sort_unstable();
        events.dedup();
        let mut closing = api.closing.subscribe();
        let reached = tokio::select! {
            reached = api.hub.until_delivered(&events, &self.names, self.wait) => Some(reached),
            () = async { drop(closing.wait_for(|closing| *closing).await) } => None,
        };
        let reached = match reached {
            Some(reached) => reached,
            // The server stops: the answer says how far it has come.
            None => api.hub.until_delivered(&events, &self.names, Duration::ZERO).await,
        };
        let Reached { events, missing, unreached, crowded } = reached?;
        let unreached = unreached
            .into_iter()
            .map(|one| UnreachedBody { event: one.event, standing: StandingBody::of(one.at, one.event) });
        Ok(ReachedBody {
            delivered: missing == 0,
            events,
            destinations: self.names,
            waited_ms: began.elapsed().as_millis() as u64,
            crowded,
            missing,
            unreached: unreached.collect(),
        })
    }
}

impl ReachedBody {
    /// Whether all is there.
    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered
    }
}

/// The `wait` of the `Prefer` headers, in seconds; `respond-async` alone is none. What can't be understood is passed over,
/// as RFC 7240 has it.
fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let preferences: Vec<&str> = lines.flat_map(|line| line.split(',')).map(|one| one.trim()).collect();
    let wait = preferences.iter().find_map(|one| {
        let (name, value) = one.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| value.parse().ok())?
    });
    let at_once = preferences.iter().any(|one| one.eq_ignore_ascii_case("respond-async"));
    wait.or(at_once.then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_as_rfc_7240_has_it() {
        let wait = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("prefer", HeaderValue::from_static(line));
            }
            preferred_wait(&headers)
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&["wait=2"]), Some(2));
        assert_eq!(wait(&["return=minimal, Wait = 5"]), Some(5));
        assert_eq!(wait(&["handling=lenient", "wait=\"7\"; foo=bar"]), Some(7));
        assert_eq!(wait(&["respond-async"]), Some(0));
        assert_eq!(wait(&["respond-async, wait=3"]), Some(3));
        assert_eq!(wait(&["wait=soon"]), None);
        assert_eq!(wait(&["wait=-1"]), None);
    }
}
