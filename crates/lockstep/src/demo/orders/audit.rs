//! What the hub's state of a file's orders comes to, counted from the documents that its API gives.

use std::collections::HashSet;

use serde::Deserialize;

use super::exact::Exact;
use super::shop::EXACT_PRICE;
use super::totals::Totals;

/// Counts orders as they come.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    totals: Totals,
    customers: HashSet<String>,
    stock_codes: HashSet<String>,
    /// What could not be counted.
    pub(crate) unreadable: Vec<String>,
}

#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    lifecycle: String,
    #[serde(default)]
    customer: Option<Customer>,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Customer {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    sku: String,
    ordered: i64,
    #[serde(default)]
    unit_price: Option<Money>,
    #[serde(default)]
    properties: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Money {
    minor: i64,
}

impl Audit {
    /// Counts one order of the hub.
    pub(crate) fn order(&mut self, key: &str, document: &str) {
        if let Err(problem) = self.count(document) {
            self.unreadable.push(format!("order/{key}: {problem}"));
        }
    }

    fn count(&mut self, document: &str) -> Result<(), String> {
        let order: Order = serde_json::from_str(document).map_err(|error| error.to_string())?;
        self.totals.invoices += 1;
        self.totals.cancellations += u64::from(order.lifecycle == "cancelled");
        self.customers.extend(order.customer.and_then(|customer| customer.id));
        for line in order.lines {
            let exact = line.properties.get(EXACT_PRICE).and_then(|text| Exact::parse(text.as_str()?));
            let price = exact.or_else(|| line.unit_price.map(|money| Exact::hundredths(money.minor)));
            self.totals.line(line.ordered, price.ok_or("a line has no price")?);
            self.stock_codes.insert(line.sku);
        }
        Ok(())
    }

    /// The sums.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            customers: self.customers.len() as u64,
            stock_codes: self.stock_codes.len() as u64,
            ..self.totals.clone()
        }
    }
}
