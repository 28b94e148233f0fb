//! `lockstep conflict`: fields of which systems disagree, and what a person decides.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::entity::{Name, parse_name};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// How many conflicts one page asks for.
const PAGE: u64 = 500;

/// Look at fields of which systems disagree (policy `review`), and decide them.
#[derive(Debug, Args)]
pub struct ConflictArgs {
    #[command(subcommand)]
    command: ConflictCommand,
}

#[derive(Debug, Subcommand)]
enum ConflictCommand {
    /// List conflicts: the open ones, unless another status is asked for.
    #[command(after_help = "Example:\n  lockstep conflict list --kind order")]
    List(ListArgs),
    /// Print a conflict: what each system says, and where that differs.
    #[command(after_help = "Example:\n  lockstep conflict show order/web:1001 note")]
    Show(OneArgs),
    /// Decide a conflict: for a system's value, or with a value of your own.
    #[command(
        after_help = "Example:\n  lockstep conflict resolve order/web:1001 note --prefer erp --reason 'asked the customer'\n  lockstep conflict resolve order/web:1001 note --value '\"ring twice\"' --reason 'asked the customer'"
    )]
    Resolve(ResolveArgs),
    /// Take a decision back: what the systems say counts again.
    #[command(after_help = "Example:\n  lockstep conflict reverse order/web:1001 note --reason 'the wrong order'")]
    Reverse(ReverseArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Which ones: open, resolved or all.
    #[arg(long, default_value = "open", value_parser = ["open", "resolved", "all"])]
    status: String,
    /// Only those about entities of this kind.
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The entity: its kind, a slash, its key.
    #[arg(value_name = "KIND/KEY", value_parser = parse_name)]
    name: Name,
    /// The field, or the path of its part, such as customer.email or lines[7].
    field: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ResolveArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The system whose value is taken.
    #[arg(long, value_name = "SYSTEM", required_unless_present = "value", conflicts_with = "value")]
    prefer: Option<String>,
    /// The value as JSON: a text has its quotes.
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    value: Option<Value>,
    /// With --prefer: prefer this system for this field from now on, in all entities of this kind.
    #[arg(long, conflicts_with = "value")]
    always: bool,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
struct ReverseArgs {
    #[command(flatten)]
    one: OneArgs,
    #[command(flatten)]
    why: Why,
}

/// What every decision of a person has.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// Why, for whoever looks at it later.
    #[arg(long)]
    pub(super) reason: String,
    /// What makes a repetition of this command the same; without it each run is a decision of its own.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Why {
    pub(super) fn key(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| format!("cli-{:032x}", fastrand::u128(..)))
    }
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it must be JSON, a text in quotes: {error}"))
}

impl OneArgs {
    fn path(&self) -> String {
        let Name { kind, key } = &self.name;
        format!("/v1/conflicts/{}/{}/{}", segment(kind), segment(key), segment(&self.field))
    }
}

/// Runs the command.
pub async fn run(args: &ConflictArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        ConflictCommand::List(args) => list(args, output).await,
        ConflictCommand::Show(args) => {
            let conflict = Remote::new(&args.remote)?.get(&args.path()).await?.body;
            print(&conflict, output)?;
            Ok(Exit::Done)
        }
        ConflictCommand::Resolve(args) => {
            let mut body = json!({ "reason": args.why.reason });
            if let Some(system) = &args.prefer {
                body["prefer"] = system.as_str().into();
                body["always"] = args.always.into();
            }
            if let Some(value) = &args.value {
                body["value"] = value.clone();
            }
            settle(&args.one, "resolve", &args.why, &body, output).await
        }
        ConflictCommand::Reverse(args) => {
            settle(&args.one, "reverse", &args.why, &json!({ "reason": args.why.reason }), output).await
        }
    }
}

async fn settle(one: &OneArgs, action: &str, why: &Why, body: &Value, output: &Output) -> Result<Exit, Failure> {
    let path = format!("{}/{action}", one.path());
    let answer = Remote::new(&one.remote)?.write(Method::POST, &path, &why.key(), Some(body)).await?.body;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        let conflict = &answer["conflict"];
        let status = show::clean(conflict["status"].as_str().unwrap_or_default());
        output.line(&format!(
            "{}: {status}, {} stands",
            heading(conflict, output),
            show::value(&conflict["standing"])
        ))?;
    }
    Ok(Exit::Done)
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut table = Table::new(&["entity", "field", "status", "changed", "stands", "said"]);
    let mut after = None;
    loop {
        let parameters = [
            ("status", Some(args.status.clone())),
            ("kind", args.kind.clone()),
            ("after", after),
            ("limit", Some(PAGE.to_string())),
        ];
        let page = remote.get(&format!("/v1/conflicts{}", query(&parameters))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
            let said = item["candidates"].as_array().into_iter().flatten();
            let said =
                said.map(|c| format!("{}: {}", c["system"].as_str().unwrap_or_default(), show::value(&c["value"])));
            table.row([
                format!("{}/{}", text("kind"), text("key")),
                text("field"),
                text("status"),
                time::shorten(&text("updated_at")),
                show::value(&item["standing"]),
                said.collect::<Vec<_>>().join(", "),
            ]);
        }
        after = page["next_after"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if !output.is_json() {
        let none = if args.status == "open" { "there are no open conflicts" } else { "there are no such conflicts" };
        output.text(&if table.is_empty() { none.to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

fn heading(conflict: &Value, output: &Output) -> String {
    let text = |member: &str| show::clean(conflict[member].as_str().unwrap_or_default());
    output.styled(Style::Bold, &format!("{}/{} {}", text("kind"), text("key"), text("field")))
}

fn print(conflict: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(conflict);
    }
    let text = |value: &Value, member: &str| show::clean(value[member].as_str().unwrap_or_default());
    let status = text(conflict, "status");
    let style = if status == "open" { Style::Yellow } else { Style::Green };
    output.line(&format!(
        "{}  {} since {}  policy {}  version {}  (entity: version {})",
        heading(conflict, output),
        output.styled(style, &status),
        time::shorten(&text(conflict, "updated_at")),
        text(conflict, "policy"),
        conflict["version"],
        conflict["entity_version"],
    ))?;
    output.line(&format!("stands: {}", show::value(&conflict["standing"])))?;
    let mut table = Table::new(&["system", "value", "written"]);
    for candidate in conflict["candidates"].as_array().into_iter().flatten() {
        table.row([
            text(candidate, "system"),
            show::value(&candidate["value"]),
            time::shorten(&text(candidate, "occurred_at")),
        ]);
    }
    output.text(&table.render(output))?;
    let mut table = Table::new(&["differs at", "system", "has"]);
    for difference in conflict["differences"].as_array().into_iter().flatten() {
        let pointer = text(difference, "pointer");
        // Of a value that differs as a whole, all is said above.
        for (system, value) in difference["values"].as_object().into_iter().flatten().filter(|_| !pointer.is_empty()) {
            table.row([pointer.clone(), system.clone(), show::value(value)]);
        }
    }
    if !table.is_empty() {
        output.text(&format!("\n{}", table.render(output)))?;
    }
    let decision = &conflict["decision"];
    if !decision.is_null() {
        let (action, by) = (text(decision, "action"), text(decision, "by"));
        let at = time::shorten(&text(decision, "at"));
        output.line(&format!("\n{action} by {by} at {at}: {}", text(decision, "reason")))?;
    }
    Ok(())
}
