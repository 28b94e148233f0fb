//! The web shop: the webhooks of a Shopify shop, from an article's first mention to an order's refund.

use std::fmt::Write;

use super::{Assortment, CURRENCY, Traffic, decimal};
use crate::demo::systems::sender::Outgoing;

/// How many orders are alive at most; the oldest ones are left as they are.
const ALIVE_MAX: usize = 4_096;
/// How many lines an order has at most.
const LINES_MAX: u32 = 5;

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Placed,
    Paid,
    Fulfilled,
}

/// An order that may still change: enough to write the whole document again.
#[derive(Clone, Debug)]
struct Order {
    number: u64,
    customer: u32,
    created_at_us: i64,
    lines: Vec<(u32, i64)>,
    note: u32,
    stage: Stage,
}

/// See the module.
pub(crate) struct Shop {
    assortment: Assortment,
    random: fastrand::Rng,
    alive: Vec<Order>,
    introduced: u32,
    placed: u64,
    refunds: u64,
    sent: u64,
}

impl Shop {
    pub(crate) fn new(assortment: Assortment, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ 0x540b);
        Self { assortment, random, alive: Vec::new(), introduced: 0, placed: 0, refunds: 0, sent: 0 }
    }

    /// Ids of Shopify are large numbers; those of two runs differ.
    fn id(&self, of: u64) -> u64 {
        4_000_000_000_000 + (self.assortment.run & 0xf_ffff) * 1_000_000_000 + of
    }

    fn place(&mut self) -> usize {
        self.placed += 1;
        let lines = (0..self.random.u32(1..=LINES_MAX))
            .map(|_| (self.random.u32(..self.assortment.entities), self.random.i64(1..=4)))
            .collect();
        let order = Order {
            number: self.placed,
            customer: self.random.u32(..self.assortment.entities),
            created_at_us: 0,
            lines,
            note: 0,
            stage: Stage::Placed,
        };
        if self.alive.len() < ALIVE_MAX {
            self.alive.push(order);
            self.alive.len() - 1
        } else {
            let at = self.random.usize(..ALIVE_MAX);
            self.alive[at] = order;
            at
        }
    }

    /// An order at this stage, found by looking at a few.
    fn some(&mut self, stages: &[Stage]) -> Option<usize> {
        if self.alive.is_empty() {
            return None;
        }
        (0..8).map(|_| self.random.usize(..self.alive.len())).find(|at| stages.contains(&self.alive[*at].stage))
    }

    fn order(&mut self, now_us: i64) -> (&'static str, String) {
        let choice = self.random.u32(..100);
        let found = match choice {
            0..40 => None,
            40..62 => self.some(&[Stage::Placed]).map(|at| (at, "orders/paid")),
            62..80 => self.some(&[Stage::Placed, Stage::Paid]).map(|at| (at, "orders/updated")),
            80..94 => self.some(&[Stage::Paid]).map(|at| (at, "orders/fulfilled")),
            94..97 => self.some(&[Stage::Placed, Stage::Paid]).map(|at| (at, "orders/cancelled")),
            _ => self.some(&[Stage::Paid, Stage::Fulfilled]).map(|at| (at, "refunds/create")),
        };
        let Some((at, topic)) = found else {
            let at = self.place();
            self.alive[at].created_at_us = now_us;
            return ("orders/create", self.document(&self.alive[at], now_us, false));
        };
        match topic {
            "orders/paid" => self.alive[at].stage = Stage::Paid,
            "orders/updated" => self.alive[at].note += 1,
            "orders/fulfilled" => self.alive[at].stage = Stage::Fulfilled,
            "orders/cancelled" => {
                let order = self.alive.swap_remove(at);
                return (topic, self.document(&order, now_us, true));
            }
            _ => {
                let order = self.alive.swap_remove(at);
                return (topic, self.refund(&order, now_us));
            }
        }
        (topic, self.document(&self.alive[at], now_us, false))
    }

    fn document(&self, order: &Order, now_us: i64, cancelled: bool) -> String {
        let (id, number, customer) = (self.id(order.number), order.number, order.customer);
        let time = lockstep_connect::time::format_rfc3339;
        let (created, updated) = (time(order.created_at_us), time(now_us));
        let subtotal: i64 = order.lines.iter().map(|(article, count)| Assortment::price_cents(*article) * count).sum();
        let (shipping, tax) = (495, subtotal * 19 / 119);
        let (financial, fulfilment) = match order.stage {
            Stage::Placed => ("pending", "null"),
            Stage::Paid => ("paid", "null"),
            Stage::Fulfilled => ("paid", "\"fulfilled\""),
        };
        let (cancelled_at, reason) =
            if cancelled { (format!("\"{updated}\""), "\"customer\"") } else { ("null".to_owned(), "null") };
        let mut out = String::with_capacity(3_072);
        // Writing to a string can't fail.
        let _ = write!(
            out,
            r##"{{"id":{id},"admin_graphql_api_id":"gid://shopify/Order/{id}","name":"#{number}","order_number":{number},"email":"customer{customer}@example.com","created_at":"{created}","updated_at":"{updated}","processed_at":"{created}","cancelled_at":{cancelled_at},"cancel_reason":{reason},"closed_at":null,"confirmed":true,"test":false,"currency":"{CURRENCY}","presentment_currency":"{CURRENCY}","financial_status":"{financial}","fulfillment_status":{fulfilment},"note":"revision {}","tags":"demo","taxes_included":true,"source_name":"web","customer_locale":"de","total_weight":0,"subtotal_price":"{}","total_line_items_price":"{}","total_discounts":"0.00","total_tax":"{}","total_price":"{}","discount_codes":[],"note_attributes":[],"payment_gateway_names":["demo_payments"],"##,
            order.note,
            decimal(subtotal),
            decimal(subtotal),
            decimal(tax),
            decimal(subtotal + shipping),
        );
        let _ = write!(
            out,
            r#""customer":{{"id":{customer_id},"email":"customer{customer}@example.com","first_name":"Kim","last_name":"Example {customer}","state":"enabled","verified_email":true,"tags":""}},"#,
            customer_id = 6_000_000_000 + u64::from(customer),
        );
        for role in ["billing_address", "shipping_address"] {
            let _ = write!(
                out,
                r#""{role}":{{"first_name":"Kim","last_name":"Example {customer}","name":"Kim Example {customer}","company":null,"address1":"Musterweg {}","address2":null,"city":"Berlin","zip":"10115","province":null,"province_code":null,"country":"Germany","country_code":"DE","phone":null}},"#,
                customer % 200 + 1,
            );
        }
        out.push_str(r#""line_items":["#);
        for (at, (article, count)) in order.lines.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(
                out,
                r#"{comma}{{"id":{line},"admin_graphql_api_id":"gid://shopify/LineItem/{line}","product_id":{product},"variant_id":{variant},"sku":"{sku}","title":"Article {article}","variant_title":null,"name":"Article {article}","vendor":"Demo","quantity":{count},"current_quantity":{count},"fulfillable_quantity":{count},"grams":250,"price":"{price}","total_discount":"0.00","taxable":true,"requires_shipping":true,"gift_card":false,"fulfillment_status":null,"properties":[],"tax_lines":[],"discount_allocations":[]}}"#,
                line = id * 10 + at as u64,
                product = 7_000_000_000 + u64::from(*article),
                variant = 8_000_000_000 + u64::from(*article),
                sku = Assortment::sku(*article),
                price = decimal(Assortment::price_cents(*article)),
            );
        }
        let _ = write!(
            out,
            r#"],"shipping_lines":[{{"id":{id},"title":"Standard","code":"standard","price":"{price}","discounted_price":"{price}"}}],"tax_lines":[],"refunds":[],"fulfillments":[]}}"#,
            price = decimal(shipping),
        );
        out
    }

    fn refund(&mut self, order: &Order, now_us: i64) -> String {
        self.refunds += 1;
        let (refund, order_id) = (self.id(self.refunds), self.id(order.number));
        let at = lockstep_connect::time::format_rfc3339(now_us);
        let amount: i64 =
            order.lines.iter().take(1).map(|(article, count)| Assortment::price_cents(*article) * count).sum();
        format!(
            r#"{{"id":{refund},"admin_graphql_api_id":"gid://shopify/Refund/{refund}","order_id":{order_id},"created_at":"{at}","processed_at":"{at}","note":"returned","restock":false,"refund_line_items":[],"order_adjustments":[],"transactions":[{{"id":{transaction},"admin_graphql_api_id":"gid://shopify/OrderTransaction/{transaction}","order_id":{order_id},"kind":"refund","status":"success","gateway":"demo_payments","amount":"{}","currency":"{CURRENCY}","authorization":"demo-{refund}","created_at":"{at}","processed_at":"{at}","test":false,"parent_id":null,"message":"Success"}}]}}"#,
            decimal(amount),
            transaction = self.id(500_000_000 + self.refunds),
        )
    }

    fn product(&mut self, article: u32, now_us: i64) -> String {
        let at = lockstep_connect::time::format_rfc3339(now_us);
        let sku = Assortment::sku(article);
        let (product, variant) = (7_000_000_000 + u64::from(article), 8_000_000_000 + u64::from(article));
        let price = decimal(Assortment::price_cents(article));
        let edition = self.random.u32(1..100);
        format!(
            r#"{{"id":{product},"admin_graphql_api_id":"gid://shopify/Product/{product}","title":"Article {article}","body_html":"<p>Edition {edition}</p>","vendor":"Demo","product_type":"Things","handle":"article-{article}","created_at":"2026-01-05T09:00:00Z","updated_at":"{at}","published_at":"2026-01-05T09:00:00Z","status":"active","published_scope":"global","tags":"demo, edition-{edition}","options":[{{"id":1,"product_id":{product},"name":"Title","position":1,"values":["Default Title"]}}],"images":[],"image":null,"variants":[{{"id":{variant},"product_id":{product},"title":"Default Title","sku":"{sku}","barcode":null,"price":"{price}","compare_at_price":null,"position":1,"option1":"Default Title","option2":null,"option3":null,"taxable":true,"grams":250,"weight":0.25,"weight_unit":"kg","inventory_item_id":{variant},"inventory_policy":"deny","requires_shipping":true,"created_at":"2026-01-05T09:00:00Z","updated_at":"{at}"}}]}}"#
        )
    }

    fn customer(&mut self, now_us: i64) -> String {
        let customer = self.random.u32(..self.assortment.entities);
        let at = lockstep_connect::time::format_rfc3339(now_us);
        let id = 6_000_000_000 + u64::from(customer);
        let house = self.random.u32(1..200);
        format!(
            r#"{{"id":{id},"admin_graphql_api_id":"gid://shopify/Customer/{id}","email":"customer{customer}@example.com","first_name":"Kim","last_name":"Example {customer}","phone":null,"created_at":"2026-01-05T09:00:00Z","updated_at":"{at}","state":"enabled","note":null,"verified_email":true,"tax_exempt":false,"tags":"demo","currency":"{CURRENCY}","default_address":{{"id":{id},"customer_id":{id},"first_name":"Kim","last_name":"Example {customer}","name":"Kim Example {customer}","company":null,"address1":"Musterweg {house}","address2":null,"city":"Berlin","zip":"10115","province":null,"province_code":null,"country":"Germany","country_code":"DE","country_name":"Germany","phone":null,"default":true}},"addresses":[],"email_marketing_consent":null,"sms_marketing_consent":null}}"#
        )
    }
}

impl Traffic for Shop {
    fn next(&mut self, now_us: i64, _changes_max: u32) -> Outgoing {
        self.sent += 1;
        // Every second message introduces an article until all are known.
        let (topic, body) = if self.introduced < self.assortment.entities && self.sent.is_multiple_of(2) {
            self.introduced += 1;
            ("products/create", self.product(self.introduced - 1, now_us))
        } else {
            match self.random.u32(..100) {
                0..8 => {
                    let article = self.random.u32(..self.assortment.entities);
                    ("products/update", self.product(article, now_us))
                }
                8..16 => ("customers/update", self.customer(now_us)),
                _ => self.order(now_us),
            }
        };
        let id = webhook_id(self.assortment.run, self.sent);
        Outgoing { id, topic, body: body.into(), changes: 1 }
    }
}

/// An id in the form that Shopify gives its deliveries.
pub(crate) fn webhook_id(run: u64, number: u64) -> String {
    format!("{:08x}-{:04x}-4000-8000-{:012x}", run >> 16 & 0xffff_ffff, run & 0xffff, number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_message_is_json_and_every_topic_comes() {
        let mut shop = Shop::new(Assortment { entities: 50, run: 1 }, 1);
        let mut topics = BTreeMap::new();
        for at in 0..5_000 {
            let outgoing = shop.next(1_790_000_000_000_000 + at, 1);
            let document: serde_json::Value = serde_json::from_slice(&outgoing.body).expect(outgoing.topic);
            assert!(document["id"].as_u64().is_some_and(|id| id < 1 << 53), "{}", outgoing.topic);
            *topics.entry(outgoing.topic).or_insert(0) += 1;
        }
        let names: Vec<_> = topics.keys().copied().collect();
        assert_eq!(
            names,
            [
                "customers/update",
                "orders/cancelled",
                "orders/create",
                "orders/fulfilled",
                "orders/paid",
                "orders/updated",
                "products/create",
                "products/update",
                "refunds/create",
            ]
        );
    }

    #[test]
    fn equal_seeds_say_the_same() {
        let all = |seed| {
            let mut shop = Shop::new(Assortment { entities: 50, run: 1 }, seed);
            (0..200).map(|at| shop.next(at, 1).body).collect::<Vec<_>>()
        };
        assert_eq!(all(4), all(4));
        assert_ne!(all(4), all(5));
    }
}
