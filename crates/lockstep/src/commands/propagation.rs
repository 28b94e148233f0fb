//! `lockstep events propagation`: where one event stands at each destination.

use clap::Args;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs};
use crate::{show, time};

#[derive(Debug, Args)]
pub(super) struct PropagationArgs {
    /// The event's position, which is its id.
    #[arg(value_parser = super::position)]
    position: u64,
    /// Print it again whenever it changes, until the event is settled everywhere.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub(super) async fn run(args: &PropagationArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let path = format!("/v1/events/{}/propagation", args.position);
    if !args.follow {
        let told = remote.get(&path).await?.body;
        print(&told, output)?;
        return Ok(exit(&told));
    }
    let mut stream = remote.stream(&format!("{path}/stream")).await?;
    let mut last = Value::Null;
    while let Some(event) = stream.next().await? {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if event.event == "error" {
            let text = |member: &str| data[member].as_str().unwrap_or_default().to_owned();
            return Err(Failure::unreachable(&text("code"), text("detail")));
        }
        print(&data, output)?;
        last = data;
    }
    if last["complete"] != true {
        return Err(Failure::unreachable("stream-ended", "the hub ended the stream: it is shutting down"));
    }
    Ok(exit(&last))
}

/// Whether everybody who is to have it has it.
fn exit(told: &Value) -> Exit {
    let has = |one: &Value| !matches!(one["state"].as_str(), Some("pending" | "parked" | "dead" | "discarded"));
    if told["destinations"].as_array().into_iter().flatten().all(has) { Exit::Done } else { Exit::No }
}

fn print(told: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(told);
    }
    let text = |value: &Value, member: &str| show::clean(value[member].as_str().unwrap_or_default());
    let name = format!("event {}", told["position"]);
    output.line(&format!(
        "{}  {} {}/{}  {}",
        output.styled(Style::Bold, &name),
        text(told, "type"),
        text(told, "kind"),
        text(told, "key"),
        time::shorten(&text(told, "recorded_at")),
    ))?;
    let mut table = Table::new(&["destination", "state", "when", "attempts", "next attempt", "why"]);
    for one in told["destinations"].as_array().into_iter().flatten() {
        let at = |member: &str| one[member].as_str().map(time::shorten);
        let by = at("by").map(|by| format!("by {by}"));
        let mut why: Vec<String> =
            one["behind"].as_u64().map(|head| format!("behind event {head}")).into_iter().collect();
        why.extend(one["down_since"].as_str().map(|since| format!("down since {}", time::shorten(since))));
        why.extend(one["reason"].as_str().map(show::clean));
        if one["running"] == false {
            why.push("not running".to_owned());
        }
        let state = text(one, "state");
        let style = match state.as_str() {
            "dead" | "discarded" => Some(Style::Red),
            "pending" | "parked" => Some(Style::Yellow),
            _ => None,
        };
        table.styled_row(
            style,
            [
                text(one, "destination"),
                state,
                at("at").or(by).unwrap_or_else(|| "-".to_owned()),
                one["attempts"].as_u64().map_or("-".to_owned(), |attempts| attempts.to_string()),
                at("next_attempt_at").unwrap_or_else(|| "-".to_owned()),
                why.join(", "),
            ],
        );
    }
    output.text(&if table.is_empty() { "there are no destinations".to_owned() } else { table.render(output) })
}
