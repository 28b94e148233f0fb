//! Reservations from a file: JSON as `POST /v1/reservations` takes them, or a CSV with a line for each item.

use std::collections::HashMap;
use std::path::Path;

use lockstep_connect::time::parse_rfc3339;
use lockstep_core::stock::{Item, Reserve};
use serde::Deserialize;

use crate::exit::Failure;

/// What holds for requests that do not say it themselves.
pub(super) struct Defaults<'a> {
    pub(super) channel: Option<&'a str>,
    pub(super) hold_s: u32,
    pub(super) now_us: i64,
    pub(super) allow_partial: bool,
    pub(super) allow_split: bool,
}

/// A request, in the words of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: Option<String>,
    owner: Option<String>,
    channel: Option<String>,
    expires_at: Option<String>,
    hold_s: Option<u32>,
    #[serde(default)]
    items: Vec<Wanted>,
    #[serde(default)]
    allow_partial: bool,
    #[serde(default)]
    allow_split: bool,
    backorder_until: Option<String>,
    replaces: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sku: String,
    quantity: i64,
    location: Option<String>,
}

/// A line of a CSV.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    reservation: Option<String>,
    channel: Option<String>,
    sku: String,
    quantity: i64,
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    reservations: Vec<Request>,
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::usage("file", format!("{} can't be used: {what}", path.display()))
}

/// The requests of a file, in its order.
pub(super) fn read(path: &Path, defaults: &Defaults<'_>) -> Result<Vec<Reserve>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| wrong(path, error))?;
    let requests = match text.trim_start().chars().next() {
        None => return Err(wrong(path, "it is empty")),
        Some('[') => serde_json::from_str(&text).map_err(|error| wrong(path, error))?,
        Some('{') => objects(&text).map_err(|error| wrong(path, error))?,
        Some(_) => lines(&text).map_err(|error| wrong(path, error))?,
    };
    let mut all = Vec::with_capacity(requests.len());
    for (number, request) in (1..).zip(requests) {
        let name = request.id.clone().unwrap_or_else(|| format!("#{number}"));
        all.push(reserve(request, &name, defaults).map_err(|what| wrong(path, format!("{name}: {what}")))?);
    }
    Ok(all)
}

/// One object with a list, or an object a line.
fn objects(text: &str) -> Result<Vec<Request>, serde_json::Error> {
    if let Ok(document) = serde_json::from_str::<Document>(text) {
        return Ok(document.reservations);
    }
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

/// Lines with the same reservation are one request, also where they do not follow each other.
fn lines(text: &str) -> Result<Vec<Request>, csv::Error> {
    let (mut requests, mut known) = (Vec::<Request>::new(), HashMap::<String, usize>::new());
    for line in csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes()).deserialize() {
        let Line { reservation, channel, sku, quantity, location } = line?;
        let at = match &reservation {
            Some(id) => *known.entry(id.clone()).or_insert(requests.len()),
            None => requests.len(),
        };
        if at == requests.len() {
            requests.push(Request { id: reservation, channel, ..Request::default() });
        }
        requests[at].items.push(Wanted { sku, quantity, location });
    }
    Ok(requests)
}

fn reserve(request: Request, name: &str, defaults: &Defaults<'_>) -> Result<Reserve, String> {
    let time = |field: &str, text: &str| {
        let wrong = || format!("`{field}` must be a time as RFC 3339 has it, not `{text}`");
        parse_rfc3339(text).ok_or_else(wrong)
    };
    let usual_us = defaults.now_us + i64::from(request.hold_s.unwrap_or(defaults.hold_s)) * 1_000_000;
    let expires_at_us = request.expires_at.as_deref().map(|text| time("expires_at", text)).transpose()?;
    let backorder_until_us =
        request.backorder_until.as_deref().map(|text| time("backorder_until", text)).transpose()?;
    let channel = request.channel.as_deref().or(defaults.channel);
    let channel = channel.ok_or("it names no channel: say it there, or with --channel for all")?;
    let item = |of: Wanted| Item { sku: of.sku.into(), quantity: of.quantity, location: of.location.map(Into::into) };
    Ok(Reserve {
        id: name.into(),
        owner: request.owner.as_deref().unwrap_or(name).into(),
        channel: channel.into(),
        expires_at_us: expires_at_us.unwrap_or(usual_us),
        items: request.items.into_iter().map(item).collect(),
        allow_partial: request.allow_partial || defaults.allow_partial,
        allow_split: request.allow_split || defaults.allow_split,
        backorder_until_us,
        replaces: request.replaces.map(Into::into),
        is_order: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, channel: Option<&str>) -> Result<Vec<Reserve>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let defaults = Defaults { channel, hold_s: 60, now_us: 5_000_000, allow_partial: false, allow_split: false };
        read(file.path(), &defaults).map_err(|failure| failure.message)
    }

    #[test]
    fn every_form_says_the_same() {
        let array = r#"[{"id": "a", "channel": "web", "items": [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1,
            "location": "x"}]}, {"id": "b", "channel": "web", "items": [{"sku": "A", "quantity": 1}]}]"#;
        let wanted = of(array, None).unwrap();
        assert_eq!((wanted.len(), wanted[0].items.len(), wanted[0].expires_at_us), (2, 2, 65_000_000));
        let object = format!("{{\"reservations\": {array}}}");
        assert_eq!(of(&object, None).unwrap(), wanted);
        let each: Vec<serde_json::Value> = serde_json::from_str(array).unwrap();
        let each: Vec<String> = each.iter().map(ToString::to_string).collect();
        assert_eq!(of(&each.join("\n"), None).unwrap(), wanted);
        let csv = "reservation,sku,quantity,location\na,A,2,\nb,A,1,\na,B,1,x\n";
        assert_eq!(of(csv, Some("web")).unwrap(), wanted);
        let alone = of("sku,quantity\nA,2\nA,2\n", Some("web")).unwrap();
        assert_eq!((alone[0].id.as_str(), alone[1].id.as_str()), ("#1", "#2"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "it is empty"),
            ("sku,quantity\nA,2\n", "#1: it names no channel"),
            ("sku,quantity\nA,two\n", "invalid digit"),
            ("sku,amount\nA,2\n", "amount"),
            (r#"[{"channel": "web", "item": []}]"#, "unknown field `item`"),
            (r#"[{"channel": "web", "expires_at": "soon"}]"#, "`expires_at` must be a time"),
        ] {
            let failure = of(text, None).unwrap_err();
            assert!(failure.contains(said), "{text}: {failure}");
        }
    }
}
