//! How the hub is to understand the orders of a file: a pack and a schema beside its configuration, as anybody can
//! put there.

use std::path::Path;

use anyhow::Context;
use lockstep_connect::schema::Schemas;
use serde_json::json;

/// The pack's name, which is also that of its folder.
pub(crate) const NAME: &str = "shopify-orders-file";

const FILES: [(&str, &str); 4] = [
    ("pack.toml", include_str!("pack/pack.toml")),
    ("mappings/customer.vrl", include_str!("pack/mappings/customer.vrl")),
    ("mappings/order.vrl", include_str!("pack/mappings/order.vrl")),
    ("mappings/product.vrl", include_str!("pack/mappings/product.vrl")),
];

/// Where the schema of orders is, in the demo's folder.
pub(crate) const SCHEMA: &str = "schemas/order.json";

/// Puts the pack and the schema into the demo's folder.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    for (name, text) in FILES {
        put(&folder.join("packs").join(NAME).join(name), text)?;
    }
    put(&folder.join(SCHEMA), &serde_json::to_string_pretty(&order_schema()?)?)
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.with_context(|| format!("{} can't be written", path.display()))
}

/// The hub's own schema of an order, but for the sign of what was ordered: a cancellation takes back.
fn order_schema() -> anyhow::Result<serde_json::Value> {
    let schemas = Schemas::builtin();
    let mut schema = schemas.get("order").context("there is no schema of an order")?.clone();
    let ordered =
        schema.pointer_mut("/$defs/line/properties/ordered").context("the schema of an order has no quantity")?;
    *ordered = json!({ "description": "Quantity ordered, or taken back where it is negative.", "type": "integer" });
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;
    use lockstep_connect::pack::Pack;
    use lockstep_connect::translate::{Options, Translator};
    use lockstep_core::InputBody;

    use super::*;
    use crate::demo::orders::audit::Audit;
    use crate::demo::orders::exact::Exact;
    use crate::demo::orders::file::{Invoice, Line};
    use crate::demo::orders::shop::FileShop;

    fn line(code: &str, quantity: i64, price: &str) -> Line {
        Line {
            stock_code: code.to_owned(),
            description: if code == "A" { String::new() } else { format!("\"{code}\" thing") },
            quantity,
            date: "2020-01-01T10:00:00Z".to_owned(),
            price: Exact::parse(price).expect("a price"),
            price_text: price.to_owned(),
        }
    }

    /// Sends invoices through the pack as the hub would, and counts what comes out.
    fn through(invoices: &[Invoice]) -> (Audit, Vec<serde_json::Value>) {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path()).expect("room");
        let pack = Pack::load(&dir.path().join("packs").join(NAME)).expect("a pack");
        let mut schemas = Schemas::builtin();
        schemas.declare("order", order_schema().expect("a schema")).expect("a valid schema");
        let options =
            Options { source: "shop".into(), system: "shop".into(), channel: None, currency: Some("GBP".into()) };
        let translator = Translator::new(&pack, Arc::new(schemas), options).expect("mappings that compile");
        let (mut audit, mut orders, mut shop) = (Audit::default(), Vec::new(), FileShop::new(1));
        for outgoing in invoices.iter().flat_map(|invoice| shop.webhooks(invoice)) {
            let body = translator.translate(outgoing.topic, &HeaderMap::new(), &outgoing.body, 0);
            let InputBody::Changes(changes) = body else { panic!("{}: {body:?}", outgoing.topic) };
            for change in changes.iter().filter(|change| change.kind == "order") {
                let mut json = Vec::new();
                lockstep_core::path::assemble(&mut json, &change.fields.iter().collect::<Vec<_>>());
                let text = String::from_utf8(json).expect("JSON is text");
                audit.order(&change.key, &text);
                orders.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        (audit, orders)
    }

    #[test]
    fn nothing_of_an_invoice_is_lost() {
        let mut late = line("PADS", 1, "0.001");
        late.date = "2020-01-01T10:01:00Z".to_owned();
        let invoice = Invoice {
            number: "7".into(),
            customer: "17850.0".into(),
            country: "EIRE".into(),
            lines: vec![line("A", -3, "27.5"), late, line("B", 1, "-11062.06")],
        };
        let cancellation = Invoice {
            number: "C8".into(),
            customer: String::new(),
            country: "France".into(),
            lines: vec![line("A", -1, "0.0")],
        };
        let (audit, orders) = through(&[invoice, cancellation]);
        assert_eq!(audit.unreadable, Vec::<String>::new());
        let totals = audit.totals();
        assert_eq!((totals.invoices, totals.cancellations, totals.lines, totals.units), (2, 1, 4, -2));
        assert_eq!(totals.gross.to_string(), "-11144.559");
        assert_eq!((totals.customers, totals.stock_codes), (1, 3));
        assert_eq!(
            orders[0]["lines"][1]["properties"],
            json!({ "unit_price_exact": "0.001", "invoice_date": "2020-01-01T10:01:00Z" })
        );
        assert_eq!(orders[0]["attributes"], json!({ "country": "EIRE", "total_exact": "-11144.559" }));
        assert_eq!(orders[0]["lines"][0].get("title"), None);
        assert_eq!(orders[0]["lines"][2]["title"], "\"B\" thing");
        assert_eq!(orders[1]["lifecycle"], "cancelled");
        assert_eq!(orders[1]["total"], json!({ "minor": 0, "currency": "GBP" }));
    }
}
