//! The sale in the table and at the end.

use serde_json::{Value, json};

use super::tally::Sums;
use super::{ARTICLES, Sale};
use crate::demo::text::{grouped, signed};

/// The line of the table.
pub(crate) fn line(sums: &Sums, reserved_per_s: u64) -> String {
    format!(
        "reservations/s {:<6} refused (409) {:<9} units sold {} of {}   oversold {}",
        grouped(reserved_per_s),
        grouped(sums.refused),
        signed(sums.units_sold),
        signed(sums.units_there),
        signed(sums.oversold),
    )
}

/// The sum of the sale, for people.
pub(crate) fn summary(sums: &Sums) -> String {
    format!(
        "stock: {} carts, {} reserved, {} refused (409), {} ran out, {} given back; units: {} there, {} sold, {} shipped",
        grouped(sums.carts),
        grouped(sums.reserved),
        grouped(sums.refused),
        grouped(sums.ran_out),
        grouped(sums.given_back),
        signed(sums.units_there),
        signed(sums.units_sold),
        signed(sums.units_shipped),
    )
}

/// The same for programs.
pub(crate) fn json(sale: &Sale, sums: &Sums, reservations: u64) -> Value {
    let mut document = json!(sums);
    document["articles"] = ARTICLES.into();
    document["repeated"] = sale.repeated.get().into();
    document["reservations_looked_at"] = reservations.into();
    document
}
