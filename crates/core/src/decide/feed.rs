//! A feed's word on stock: of a system that is declared as one, what it says of kind `stock` is no document but facts of
//! the ledger. What its number means is declared with it, where the document itself does not say.

use compact_str::CompactString;
use serde_json::Value;

use crate::change::{Change, Field};
use crate::entity::DELETED_FIELD;
use crate::rules::Rules;
use crate::stock::record::CountBasis;
use crate::stock::{Command, Count, STOCK_KIND, Unavailable};
use crate::time::rfc3339_us;

/// Takes what a feed says of stock out of its changes, as commands. That somebody keeps no record of a SKU any more is no
/// fact about goods: it stays a change.
pub(super) fn take(rules: &Rules, system: &str, changes: &mut Vec<Change>) -> Vec<Command> {
    let Some(basis) = rules.stock_feeds.get(system).copied() else { return Vec::new() };
    let is_told =
        |change: &Change| change.kind == STOCK_KIND && !change.fields.iter().any(|field| field.name == DELETED_FIELD);
    let (told, others) = std::mem::take(changes).into_iter().partition::<Vec<_>, _>(is_told);
    *changes = others;
    told.iter().flat_map(|change| commands(system, basis, change)).collect()
}

fn commands(system: &str, declared: CountBasis, change: &Change) -> Vec<Command> {
    let value = |name: &str| change.fields.iter().find(|field| field.name == name).and_then(json);
    let text = |name: &str| value(name).and_then(|value| value.as_str().map(str::to_owned));
    let number = |name: &str| value(name).and_then(|value| value.as_i64());
    // `sku@location`; a SKU may have an @ itself.
    let (key_sku, key_location) = change.key.rsplit_once('@').unwrap_or((&change.key, ""));
    let sku = text("sku").unwrap_or_else(|| key_sku.to_owned());
    let location = text("location").unwrap_or_else(|| key_location.to_owned());
    let (sku, location) = (CompactString::from(sku), CompactString::from(location));
    let as_of_us = text("counted_at").and_then(|at| rfc3339_us(&at)).unwrap_or(change.occurred_at_us);
    let basis = match text("basis").as_deref() {
        Some("on_hand") => CountBasis::OnHand,
        Some("available") => CountBasis::Available,
        _ => declared,
    };
    let field = if basis == CountBasis::Available { "available" } else { "on_hand" };
    let count = number(field).map(|quantity| {
        let (source, sku, location) = (system.into(), sku.clone(), location.clone());
        Command::Count(Count { source, sku, location, basis, quantity, as_of_us, ..Count::default() })
    });
    let unavailable = value("unavailable").and_then(|parts| {
        let parts = parts.as_object()?;
        let part = |name: &str| parts.get(name).and_then(Value::as_i64).unwrap_or(0);
        let others = parts.iter().filter(|(name, _)| !["damaged", "quality_control"].contains(&name.as_str()));
        Some(Command::Unavailable(Unavailable {
            sku: sku.clone(),
            location: location.clone(),
            as_of_us,
            damaged: part("damaged"),
            quality_control: part("quality_control"),
            // Whatever other reason a feed has.
            blocked: others.filter_map(|(_, value)| value.as_i64()).fold(0, i64::saturating_add),
        }))
    });
    // A count of what is available adds to it what is not, so that comes first; of what is on hand it is a part.
    let facts = if basis == CountBasis::Available { [unavailable, count] } else { [count, unavailable] };
    let mut commands: Vec<Command> = facts.into_iter().flatten().collect();
    if let Some(quantity) = number("safety_stock") {
        commands.push(Command::Safety { sku, location, quantity });
    }
    commands
}

fn json(field: &Field) -> Option<Value> {
    serde_json::from_slice(&field.json).ok()
}
