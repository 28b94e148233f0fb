//! An invented order as two shop systems send it, and the deliveries of it.

use serde_json::{Value, json};

use crate::common::Hub;

/// One delivery to a source.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) source: &'static str,
    pub(crate) topic: String,
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Delivery {
    pub(crate) fn shop(topic: &str, id: &str, body: Value) -> Self {
        Self { source: "shop", topic: topic.into(), id: id.into(), body }
    }

    pub(crate) fn second(topic: &str, id: &str, body: Value) -> Self {
        Self { source: "second", topic: topic.into(), id: id.into(), body }
    }

    /// What a system that writes through the API says of the order, at a minute past nine.
    pub(crate) fn crm(id: &str, minute: u32, data: Value) -> Self {
        let time = format!("2026-03-01T09:{minute:02}:00Z");
        let body = json!({
            "specversion": "1.0", "id": id, "source": "/crm", "type": "order.changed", "subject": "order/web:1001",
            "time": time, "data": data,
        });
        Self { source: "crm", topic: String::new(), id: id.into(), body }
    }

    /// Sends a shop's, and gives what became of it.
    #[track_caller]
    pub(crate) fn send(&self, hub: &Hub) -> Value {
        let names = match self.source {
            "shop" => ["x-shopify-hmac-sha256", "x-shopify-topic", "x-shopify-webhook-id"],
            _ => ["x-wc-webhook-signature", "x-wc-webhook-topic", "x-wc-webhook-delivery-id"],
        };
        let headers = [(names[1], self.topic.as_str()), (names[2], self.id.as_str())];
        let (status, answer) = hub.webhook(self.source, names[0], &headers, &self.body.to_string());
        assert_eq!(status, 200, "{answer}");
        assert_ne!(answer["outcome"], "quarantined", "{}: {}", self.id, hub.ask(&["quarantine", "list"]).out);
        answer
    }
}

/// The order 1001 as a Shopify shop has it, at a minute past nine.
pub(crate) fn shopify(minute: u32, members: Value) -> Value {
    let mut order = json!({
        "id": 1001, "name": "#1001", "currency": "EUR", "email": "ada@example.com",
        "total_price": "34.90", "subtotal_price": "29.90", "total_tax": "5.57", "total_discounts": "0.00",
        "financial_status": "pending", "fulfillment_status": null, "cancelled_at": null, "closed_at": null,
        "created_at": "2026-03-01T09:00:00Z", "updated_at": format!("2026-03-01T09:{minute:02}:00Z"),
        "note": null, "tags": "vip",
        "customer": { "id": 7, "email": "ada@example.com", "first_name": "Ada", "last_name": "Berg" },
        "shipping_address": { "name": "Ada Berg", "address1": "Elm Street 4", "city": "Bremen", "country_code": "DE" },
        "line_items": [
            { "id": 1, "sku": "MUG-01", "title": "Mug", "quantity": 2, "price": "9.95" },
            { "id": 2, "sku": "TEA-02", "title": "Tea", "quantity": 1, "price": "10.00" },
        ],
    });
    order.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    order
}

/// The same order as a WooCommerce shop has it.
pub(crate) fn woocommerce(minute: u32, members: Value) -> Value {
    let mut order = json!({
        "id": 1001, "number": "1001", "status": "processing", "currency": "EUR", "total": "34.90",
        "discount_total": "0.00", "shipping_total": "5.00", "total_tax": "5.57", "prices_include_tax": true,
        "date_created_gmt": "2026-03-01T09:00:00", "date_modified_gmt": format!("2026-03-01T09:{minute:02}:30"),
        "customer_id": 7, "customer_note": "Ring twice",
        "billing": { "first_name": "Ada", "last_name": "Berg", "email": "a.berg@example.com", "country": "DE" },
        "shipping": { "first_name": "Ada", "last_name": "Berg", "address_1": "Elm Street 4", "city": "Bremen", "postcode": "28195", "country": "DE" },
        "line_items": [
            { "id": 2, "sku": "TEA-02", "name": "Tea", "quantity": 1, "subtotal": "10.00", "total": "10.00", "price": 10 },
            { "id": 3, "sku": "BAG-03", "name": "Bag", "quantity": 1, "subtotal": "5.00", "total": "5.00", "price": 5 },
        ],
    });
    order.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    order
}
