//! What a file of orders comes to, and what the hub's state of it comes to: counted apart, to be compared.

use serde_json::{Value, json};

use super::exact::Exact;

/// The sums over orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Documents, cancellations among them.
    pub(crate) invoices: u64,
    /// Documents that are cancellations.
    pub(crate) cancellations: u64,
    /// Lines of all documents.
    pub(crate) lines: u64,
    /// The sum of all quantities, negative ones too.
    pub(crate) units: i64,
    /// The sum of quantity times unit price, exact.
    pub(crate) gross: Exact,
    /// Different customers.
    pub(crate) customers: u64,
    /// Different stock codes.
    pub(crate) stock_codes: u64,
}

impl Totals {
    /// Counts a line.
    pub(crate) fn line(&mut self, quantity: i64, price: Exact) {
        self.lines += 1;
        self.units += quantity;
        self.gross += price * quantity;
    }

    /// For programs. The gross amount is text, since a JSON number would lose digits.
    pub(crate) fn json(&self) -> Value {
        json!({
            "invoices": self.invoices,
            "cancellations": self.cancellations,
            "lines": self.lines,
            "units": self.units,
            "gross": self.gross.to_string(),
            "customers": self.customers,
            "stock_codes": self.stock_codes,
        })
    }

    /// For people: name and value of each sum.
    pub(crate) fn rows(&self) -> [(&'static str, String); 7] {
        use crate::demo::text::{grouped, signed};
        [
            ("invoices", grouped(self.invoices)),
            ("cancellations", grouped(self.cancellations)),
            ("lines", grouped(self.lines)),
            ("units", signed(self.units)),
            ("gross amount", self.gross.to_string()),
            ("customers", grouped(self.customers)),
            ("stock codes", grouped(self.stock_codes)),
        ]
    }
}
