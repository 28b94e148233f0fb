//! `lockstep alert`: what somebody has to be told of.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::demo::text;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// Look at alerts, acknowledge and silence them.
#[derive(Debug, Args)]
pub struct AlertArgs {
    #[command(subcommand)]
    command: AlertCommand,
}

#[derive(Debug, Subcommand)]
enum AlertCommand {
    /// List the alerts that are open or acknowledged.
    #[command(
        after_help = "Example:\n  lockstep alert list\n  lockstep alert list --all\n\nExit codes: 0 none is open, 1 one or more are."
    )]
    List(ListArgs),
    /// Take an alert on: nobody further is told of it.
    #[command(after_help = "Example:\n  lockstep alert ack erp-behind erp --reason 'their maintenance, until six'")]
    Ack(AckArgs),
    /// Tell nothing of a rule, about a subject, or at all, for a time. What still holds afterwards is told then.
    #[command(
        after_help = "Example:\n  lockstep alert silence --rule erp-behind --for 2h --reason 'their maintenance'"
    )]
    Silence(SilenceArgs),
    /// List the silences that are not over.
    #[command(after_help = "Example:\n  lockstep alert silences")]
    Silences(RemoteOnly),
    /// End a silence now.
    #[command(after_help = "Example:\n  lockstep alert unsilence 0a1b2c3d4e5f6071")]
    Unsilence(UnsilenceArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Also those that are resolved.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct RemoteOnly {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct AckArgs {
    /// The alert's rule.
    rule: String,
    /// What it is about.
    subject: String,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct SilenceArgs {
    /// Only of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only about this subject.
    #[arg(long)]
    subject: Option<String>,
    /// For how long, such as 90s, 30m or 2h.
    #[arg(long = "for", value_name = "DURATION", value_parser = text::duration)]
    length: Duration,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct UnsilenceArgs {
    /// The silence's id.
    id: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &AlertArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        AlertCommand::List(args) => list(args, output).await,
        AlertCommand::Ack(args) => {
            let path = format!("/v1/alerts/{}/{}/acknowledge", segment(&args.rule), segment(&args.subject));
            let alert = Remote::new(&args.remote)?.post(&path, Some(&json!({ "reason": args.reason }))).await?.body;
            if output.is_json() {
                output.json(&alert)?;
            } else {
                output.line(&format!("acknowledged {} about {}", args.rule, args.subject))?;
            }
            Ok(Exit::Done)
        }
        AlertCommand::Silence(args) => {
            let wish = json!({
                "rule": args.rule, "subject": args.subject, "for_s": args.length.as_secs(), "reason": args.reason,
            });
            let silence = Remote::new(&args.remote)?.post("/v1/silences", Some(&wish)).await?.body;
            if output.is_json() {
                output.json(&silence)?;
            } else {
                let until = silence["until"].as_str().map(time::shorten).unwrap_or_default();
                output.line(&format!("silence {} until {until}", show::value(&silence["id"])))?;
            }
            Ok(Exit::Done)
        }
        AlertCommand::Silences(args) => silences(args, output).await,
        AlertCommand::Unsilence(args) => {
            let path = format!("/v1/silences/{}", segment(&args.id));
            Remote::new(&args.remote)?.delete(&path).await?;
            if output.is_json() {
                output.json(&json!({ "id": args.id, "ended": true }))?;
            } else {
                output.line(&format!("silence {} is over", args.id))?;
            }
            Ok(Exit::Done)
        }
    }
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let path = query(&[("status", args.all.then(|| "all".to_owned()))]);
    let found = Remote::new(&args.remote)?.get(&format!("/v1/alerts{path}")).await?.body;
    let mut table = Table::new(&["rule", "subject", "status", "since", "owner", "told", "detail"]);
    let mut exit = Exit::Done;
    for item in found["items"].as_array().into_iter().flatten() {
        let style = match item["status"].as_str() {
            Some("open") => Some(Style::Red),
            Some("acknowledged") => Some(Style::Yellow),
            _ => None,
        };
        if item["status"] == "open" {
            exit = Exit::No;
        }
        if output.is_json() {
            output.json(item)?;
            continue;
        }
        let text = |member: &str| show::value(&item[member]);
        let by = item["acknowledged_by"].as_str().map(|by| format!(" by {}", show::clean(by))).unwrap_or_default();
        table.styled_row(
            style,
            [
                text("rule"),
                text("subject"),
                format!("{}{by}", text("status")),
                item["opened_at"].as_str().map(time::shorten).unwrap_or_default(),
                text("owner"),
                text("to"),
                text("detail"),
            ],
        );
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no alerts".to_owned() } else { table.render(output) })?;
    }
    Ok(exit)
}

async fn silences(args: &RemoteOnly, output: &Output) -> Result<Exit, Failure> {
    let found = Remote::new(&args.remote)?.get("/v1/silences").await?.body;
    let mut table = Table::new(&["silence", "rule", "subject", "until", "by", "reason"]);
    for item in found["items"].as_array().into_iter().flatten() {
        if output.is_json() {
            output.json(item)?;
            continue;
        }
        let text = |member: &str| item[member].as_str().map_or("all".to_owned(), show::clean);
        let until = item["until"].as_str().map(time::shorten).unwrap_or_default();
        table.row([text("id"), text("rule"), text("subject"), until, text("by"), text("reason")]);
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no silences".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}
