//! Signed Shopify orders of 2 to 5 KB, invented: the same form, other numbers, each signed for itself.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use lockstep_connect::signature::{Scheme, Secret, Verifier};

/// Makes requests.
pub(super) struct Orders {
    verifier: Verifier,
    random: fastrand::Rng,
    lane: u64,
    number: u64,
    /// Over how many ids; without it every order is a new one.
    entities: Option<u64>,
    path: String,
}

impl Orders {
    /// Orders to a source, over so many order ids or each with its own.
    pub(super) fn new(source: &str, secret: &str, lane: u64, entities: Option<u64>) -> Result<Self> {
        let scheme = Scheme::named("shopify").context("the signature scheme shopify is missing")?;
        let verifier = Verifier::new(scheme, vec![Secret::new(secret)])?;
        let random = fastrand::Rng::with_seed(lane + 77);
        Ok(Self { verifier, random, lane, number: 0, entities, path: format!("/v1/webhooks/{source}") })
    }

    /// Writes the next request into `out`, whole.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) {
        self.next_traced(out, None);
    }

    /// The same with a trace id, by which its delivery is known again.
    pub(super) fn next_traced(&mut self, out: &mut Vec<u8>, trace: Option<u64>) {
        self.number += 1;
        let id = match self.entities {
            Some(entities) => 4_000_000_000 + self.random.u64(..entities),
            None => 4_000_000_000 + (self.lane << 32) + self.number,
        };
        let lines = 2 + (self.number % 5);
        let body = body(id, self.number, lines, &mut self.random);
        let delivery = format!("{:08x}-0000-4000-8000-{:012x}", self.lane, self.number);
        out.clear();
        let mut head = String::with_capacity(512);
        let _ = write!(
            head,
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-shopify-topic: orders/updated\r\n\
             x-shopify-shop-domain: bench.myshopify.com\r\nx-shopify-api-version: 2026-01\r\nx-shopify-webhook-id: {delivery}\r\n\
             x-shopify-triggered-at: 2026-02-03T10:11:12.000000Z\r\ncontent-length: {}\r\n",
            self.path,
            body.len()
        );
        for (name, value) in self.verifier.sign_headers(&delivery, 0, body.as_bytes()) {
            let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        if let Some(trace) = trace {
            let _ = write!(head, "traceparent: 00-{:032x}-00000000000000b7-01\r\n", trace + 1);
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
    }
}

fn body(id: u64, number: u64, lines: u64, random: &mut fastrand::Rng) -> String {
    let mut body = String::with_capacity(5_000);
    let second = number % 60;
    let minute = number / 60 % 60;
    let hour = number / 3_600 % 24;
    let address = r#"{"first_name":"Ines","last_name":"Brandt","name":"Ines Brandt","company":null,"address1":"Hafenstrasse 12","address2":"2. OG","city":"Bremen","province":"Bremen","province_code":"HB","zip":"28195","country":"Germany","country_code":"DE","phone":"+49 421 555 0199","latitude":53.0793,"longitude":8.8017}"#;
    let _ = write!(
        body,
        r##"{{"id":{id},"admin_graphql_api_id":"gid://shopify/Order/{id}","name":"#{}","order_number":{},"email":"ines.brandt@example.com","contact_email":"ines.brandt@example.com","phone":null,"created_at":"2026-02-03T09:00:00+01:00","updated_at":"2026-02-03T{hour:02}:{minute:02}:{second:02}+01:00","processed_at":"2026-02-03T09:00:00+01:00","cancelled_at":null,"cancel_reason":null,"closed_at":null,"currency":"EUR","presentment_currency":"EUR","financial_status":"paid","fulfillment_status":null,"confirmed":true,"test":false,"taxes_included":true,"buyer_accepts_marketing":false,"customer_locale":"de-DE","gateway":"invoice","source_name":"web","referring_site":"https://www.example.com/","landing_site":"/collections/winter","tags":"online, newsletter","note":null,"total_price":"{}.90","subtotal_price":"{}.00","total_tax":"12.40","total_discounts":"0.00","total_line_items_price":"{}.00","total_weight":2400,"total_shipping_price_set":{{"shop_money":{{"amount":"4.90","currency_code":"EUR"}},"presentment_money":{{"amount":"4.90","currency_code":"EUR"}}}},"customer":{{"id":7012345{},"email":"ines.brandt@example.com","first_name":"Ines","last_name":"Brandt","state":"enabled","verified_email":true,"orders_count":7,"total_spent":"812.35","currency":"EUR"}},"shipping_address":{address},"billing_address":{address},"shipping_lines":[{{"id":1,"title":"DHL","price":"4.90","code":"dhl"}}],"discount_codes":[],"line_items":["##,
        1_000 + number,
        1_000 + number,
        random.u64(20..900),
        random.u64(20..900),
        random.u64(20..900),
        id % 1_000,
    );
    for line in 0..lines {
        let comma = if line == 0 { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"id":{},"variant_id":{},"product_id":81234,"sku":"SKU-{:05}","title":"Merino pullover","variant_title":"anthracite / 42","name":"Merino pullover - anthracite / 42","quantity":{},"price":"{}.00","total_discount":"0.00","fulfillment_status":null,"fulfillable_quantity":1,"grams":400,"requires_shipping":true,"taxable":true,"gift_card":false,"vendor":"Example","tax_lines":[{{"title":"VAT","price":"3.19","rate":0.19}}],"properties":[]}}"#,
            id * 10 + line,
            90_000 + line,
            random.u64(..10_000),
            1 + random.u64(..3),
            random.u64(5..150),
        );
    }
    body.push_str("]}");
    body
}
