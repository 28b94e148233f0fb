//! The orders of a file as the webhooks of a Shopify shop.
//!
//! Nothing is dropped and nothing is made up. Each invoice is an order, named as in the file; a cancellation
//! (`C536379`) is an order of its own, in the state cancelled, with its negative quantities. A price with more
//! digits than its currency has is no amount of money: it is carried as the exact text, see [`EXACT_PRICE`]. Every
//! article and every customer is introduced when the file names it first.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::exact::Exact;
use super::file::Invoice;
use crate::demo::systems::sender::Outgoing;
use crate::demo::traffic::webhook_id;

/// The currency of the file: its shop is in the United Kingdom.
pub(crate) const CURRENCY: &str = "GBP";
/// The property of a line that has the exact unit price where it is no amount of money.
pub(crate) const EXACT_PRICE: &str = "unit_price_exact";
/// The property of a line that has its time where it is not the order's.
const LINE_DATE: &str = "invoice_date";
/// The note attribute of an order that has the country as the file names it.
const COUNTRY: &str = "country";
/// The note attribute of an order that has its exact total where it is no amount of money.
const EXACT_TOTAL: &str = "total_exact";

/// Makes webhooks of invoices.
pub(crate) struct FileShop {
    run: u64,
    sent: u64,
    articles: HashSet<String>,
    customers: HashSet<String>,
}

impl FileShop {
    pub(crate) fn new(run: u64) -> Self {
        Self { run, sent: 0, articles: HashSet::new(), customers: HashSet::new() }
    }

    /// The webhooks of one invoice: what it names for the first time, then the order.
    pub(crate) fn webhooks(&mut self, invoice: &Invoice) -> Vec<Outgoing> {
        let mut all = Vec::new();
        for line in &invoice.lines {
            if self.articles.insert(line.stock_code.clone()) {
                let title = Some(line.description.as_str()).filter(|d| !d.is_empty()).unwrap_or(&line.stock_code);
                let product = product(&line.stock_code, title, &line.date);
                all.push(self.outgoing("products/create", &product));
            }
        }
        if !invoice.customer.is_empty() && self.customers.insert(invoice.customer.clone()) {
            let date = invoice.lines.first().map(|line| line.date.as_str()).unwrap_or_default();
            let customer = json!({ "id": invoice.customer, "created_at": date, "updated_at": date });
            all.push(self.outgoing("customers/create", &customer));
        }
        let topic = if invoice.is_cancellation() { "orders/cancelled" } else { "orders/create" };
        all.push(self.outgoing(topic, &order(invoice)));
        all
    }

    fn outgoing(&mut self, topic: &'static str, document: &Value) -> Outgoing {
        self.sent += 1;
        Outgoing { id: webhook_id(self.run, self.sent), topic, body: document.to_string().into(), changes: 1 }
    }
}

fn product(code: &str, title: &str, date: &str) -> Value {
    json!({
        "id": code,
        "title": title,
        "created_at": date,
        "updated_at": date,
        "variants": [{ "id": code, "product_id": code, "sku": code, "created_at": date, "updated_at": date }],
    })
}

fn order(invoice: &Invoice) -> Value {
    let date = invoice.lines.first().map(|line| line.date.as_str()).unwrap_or_default();
    let mut total = Exact::default();
    let mut lines = Vec::with_capacity(invoice.lines.len());
    for (at, line) in invoice.lines.iter().enumerate() {
        total += line.price * line.quantity;
        let mut item = json!({
            "id": at + 1,
            "sku": line.stock_code,
            "quantity": line.quantity,
        });
        let mut properties = Vec::new();
        if !line.description.is_empty() {
            item["title"] = line.description.as_str().into();
        }
        if line.price.is_hundredths() {
            item["price"] = line.price_text.as_str().into();
        } else {
            properties.push(json!({ "name": EXACT_PRICE, "value": line.price_text }));
        }
        if line.date != date {
            properties.push(json!({ "name": LINE_DATE, "value": line.date }));
        }
        if !properties.is_empty() {
            item["properties"] = properties.into();
        }
        lines.push(item);
    }
    let mut attributes = vec![json!({ "name": COUNTRY, "value": invoice.country })];
    let mut order = json!({
        "id": invoice.number,
        "name": invoice.number,
        "created_at": date,
        "updated_at": date,
        "processed_at": date,
        "currency": CURRENCY,
        "line_items": lines,
    });
    if total.is_hundredths() {
        order["total_price"] = total.to_string().into();
    } else {
        attributes.push(json!({ "name": EXACT_TOTAL, "value": total.to_string() }));
    }
    order["note_attributes"] = attributes.into();
    if !invoice.customer.is_empty() {
        order["customer"] = json!({ "id": invoice.customer });
    }
    if invoice.is_cancellation() {
        order["cancelled_at"] = date.into();
    }
    order
}
