//! `lockstep dlq retry`, `cancel` and `discard`: one dead letter, or many that meet conditions.

use clap::Args;
use lockstep_connect::time::{format_rfc3339, parse_rfc3339};
use serde_json::{Value, json};

use super::filter::{FilterArgs, age_s};
use super::path;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::remote::{Remote, RemoteArgs, query};

/// How many dead letters one request is about.
const PART: u64 = 5_000;

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// The destination; it may be left out for all destinations where there is a condition or --all.
    destination: Option<String>,
    /// The event's position, where it is about one dead letter.
    #[arg(value_parser = crate::commands::position, conflicts_with_all = ["all", "dry_run"])]
    event: Option<u64>,
    /// All open dead letters.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only say how many it would be.
    #[arg(long)]
    dry_run: bool,
    /// Where to go on: `next_after` of what was interrupted.
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// When, as 2026-03-01T09:30:00Z; now where neither this nor --in is given.
    #[arg(long, value_name = "TIME", conflicts_with = "later")]
    at: Option<String>,
    /// In how long, such as 30m or 6h.
    #[arg(long = "in", id = "later", value_name = "DURATION", value_parser = age_s)]
    later: Option<u64>,
    /// Spread over so long from then on; all of an entity at the same moment, in order.
    #[arg(long, value_name = "DURATION", value_parser = age_s, conflicts_with = "event")]
    over: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    #[command(flatten)]
    chosen: Chosen,
}

/// What is done, in the words of the API and of people.
struct Action<'a> {
    name: &'static str,
    member: &'static str,
    /// What was done to so many.
    done: &'static str,
    more: Vec<(&'static str, Option<String>)>,
    body: Option<&'a Value>,
}

impl Chosen {
    fn one(&self) -> Result<Option<(&str, u64)>, Failure> {
        match (&self.destination, self.event) {
            (Some(destination), Some(event)) if !self.filter.is_selective() => Ok(Some((destination, event))),
            (_, Some(_)) => Err(Failure::usage("arguments", "an event's dead letter is one: it takes no conditions")),
            (_, None) if self.all || self.filter.is_selective() => Ok(None),
            (_, None) => {
                let message = "say which: DESTINATION EVENT, a condition such as --cause rejected, or --all";
                Err(Failure::usage("arguments", message))
            }
        }
    }

    async fn many(&self, action: Action<'_>, output: &Output) -> Result<Exit, Failure> {
        let remote = Remote::new(&self.remote)?;
        let bar = output.progress(0, action.name);
        let (mut count, mut after) = (0, self.after.clone());
        loop {
            let mut parameters = self.filter.parameters(self.destination.as_deref());
            parameters.push(("all", self.all.then(|| "true".to_owned())));
            parameters.push(("dry_run", self.dry_run.then(|| "true".to_owned())));
            parameters.push(("limit", (!self.dry_run).then(|| PART.to_string())));
            parameters.push(("after", after.clone()));
            parameters.extend(action.more.iter().cloned());
            let path = format!("/v1/dead-letters/{}{}", action.name, query(&parameters));
            let answer = match remote.post(&path, action.body).await {
                Ok(answer) => answer.body,
                Err(failure) => {
                    if let Some(after) = &after {
                        bar.suspend(|| output.line(&format!("{count} {}; go on with --after {after}", action.done)))?;
                    }
                    return Err(failure);
                }
            };
            let done = answer["count"].as_u64().unwrap_or(0);
            bar.inc(done);
            count += done;
            after = answer["next_after"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        bar.finish_and_clear();
        let letters = if count == 1 { "dead letter" } else { "dead letters" };
        if output.is_json() {
            let destination = self.destination.as_deref();
            output.json(&json!({"destination": destination, action.member: count, "dry_run": self.dry_run}))?;
        } else if self.dry_run {
            output.line(&format!("it would be {count} {letters}"))?;
        } else {
            output.line(&format!("{count} {letters} {}", action.done))?;
        }
        Ok(Exit::Done)
    }
}

pub(super) async fn retry(args: &RetryArgs, output: &Output) -> Result<Exit, Failure> {
    let at = match (&args.at, args.later) {
        (Some(at), _) if parse_rfc3339(at).is_none() => {
            let message = format!("--at must be a time such as 2026-03-01T09:30:00Z, not `{at}`");
            return Err(Failure::usage("at", message));
        }
        (Some(at), _) => Some(at.clone()),
        (None, later) => later.map(|later_s| format_rfc3339(lockstep_hub::now_us() + later_s as i64 * 1_000_000)),
    };
    let planned = at.is_some() || args.over.is_some();
    let over = args.over.map(|over_s| over_s.to_string());
    let more = vec![("at", at), ("over_s", over)];
    if let Some((destination, event)) = args.chosen.one()? {
        let path = format!("{}/retry{}", path(destination, event), query(&more));
        Remote::new(&args.chosen.remote)?.post(&path, None).await?;
        if output.is_json() {
            output.json(&json!({"destination": destination, "event": event, "retried": 1}))?;
        } else {
            let what = if planned { "will be sent" } else { "is sent" };
            output
                .line(&format!("event {event} {what} to {destination} again; `lockstep dlq list` shows what stays"))?;
        }
        return Ok(Exit::Done);
    }
    let done = match planned {
        true => "will be sent again; `lockstep dlq list` shows when",
        false => "are sent again; `lockstep dlq list` shows what stays",
    };
    args.chosen.many(Action { name: "retry", member: "retried", done, more, body: None }, output).await
}

pub(super) async fn cancel(args: &CancelArgs, output: &Output) -> Result<Exit, Failure> {
    if let Some((destination, event)) = args.chosen.one()? {
        Remote::new(&args.chosen.remote)?.post(&format!("{}/cancel", path(destination, event)), None).await?;
        if output.is_json() {
            output.json(&json!({"destination": destination, "event": event, "cancelled": 1}))?;
        } else {
            output.line(&format!("event {event} is not sent to {destination} again by itself"))?;
        }
        return Ok(Exit::Done);
    }
    let action = Action {
        name: "cancel",
        member: "cancelled",
        done: "are not sent again by themselves",
        more: Vec::new(),
        body: None,
    };
    args.chosen.many(action, output).await
}

pub(super) async fn discard(args: &DiscardArgs, output: &Output) -> Result<Exit, Failure> {
    let body = json!({ "reason": args.reason });
    if let Some((destination, event)) = args.chosen.one()? {
        let path = format!("{}/discard", path(destination, event));
        Remote::new(&args.chosen.remote)?.post(&path, Some(&body)).await?;
        if output.is_json() {
            output.json(&json!({ "destination": destination, "event": event, "discarded": true }))?;
        } else {
            output.line(&format!("discarded event {event} of {destination}"))?;
        }
        return Ok(Exit::Done);
    }
    let action =
        Action { name: "discard", member: "discarded", done: "are given up", more: Vec::new(), body: Some(&body) };
    args.chosen.many(action, output).await
}
