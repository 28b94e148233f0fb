//! Scenario 25, the money: amounts are whole minor units of their currency, from a shop's decimals to the sums of an
//! order's payments.

use std::sync::Arc;

use http::Method;
use lockstep_api::WebhookSource;
use lockstep_connect::pack::Pack;
use lockstep_connect::schema::Schemas;
use lockstep_connect::signature::{Scheme, Secret, Verifier};
use lockstep_connect::source::Source;
use lockstep_connect::translate::{Options, Translator};
use lockstep_hub::now_us;
use serde_json::{Value, json};

use crate::both_ways;
use crate::server::Setup;
use crate::shop::{Shop, Way, code};

const SECRET: &str = "not-a-real-secret";

fn verifier() -> Verifier {
    Verifier::new(Scheme::named("shopify").unwrap(), vec![Secret::new(SECRET)]).unwrap()
}

/// The webhooks of a shop system.
fn shopify() -> Setup {
    let options = Options {
        source: "shop".to_owned(),
        system: "shop-system".to_owned(),
        channel: Some("web".to_owned()),
        currency: None,
    };
    let pack = Pack::builtin("shopify").unwrap();
    let translator = Translator::new(&pack, Arc::new(Schemas::builtin()), options).unwrap();
    let source = Source::new("shop", "shop-system".to_owned(), Arc::new(translator));
    Setup { sources: vec![WebhookSource { source, verifier: verifier(), keep_raw: false }], ..Setup::default() }
}

/// Delivers an order of so much, as the shop system writes it.
async fn deliver<W: Way>(shop: &Shop<W>, number: u32, currency: &str, total: &str) -> Value {
    let order = json!({"id": number, "currency": currency, "total_price": total, "financial_status": "authorized",
        "created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-01T10:00:00Z"});
    let (id, body) = (format!("d{number}"), order.to_string());
    let signed = verifier().sign_headers(&id, now_us() / 1_000_000, body.as_bytes());
    let mut headers = vec![
        ("content-type", "application/json"),
        ("x-shopify-topic", "orders/create"),
        ("x-shopify-webhook-id", id.as_str()),
    ];
    headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())));
    let (status, answer) = shop.http.send(Method::POST, "/v1/webhooks/shop", &headers, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

both_ways! {
    async fn scenario_25_amounts_are_whole_minor_units<W>() {
        let shop = Shop::<W>::with(shopify()).await;
        for (number, currency, total, minor) in [(1, "JPY", "100", 100), (2, "KWD", "1.234", 1234), (3, "EUR", "0.10", 10)] {
            assert_eq!(deliver(&shop, number, currency, total).await["outcome"], "applied");
            let order = format!("web:{number}");
            let amount = json!({"currency": currency, "minor": minor});
            assert_eq!(shop.document(&order).await["total"], amount);
            // What is authorized and taken in two parts adds up to it.
            let parts = [("a", "auth", minor), ("b", "capture", minor / 3), ("c", "capture", minor - minor / 3)];
            for (id, kind, minor) in parts {
                let amount = json!({"currency": currency, "minor": minor});
                let payment = json!({"order": order, "kind": kind, "amount": amount});
                shop.tell(&format!("payment/{id}{number}"), 1, payment).await.unwrap();
            }
            let payment = shop.document(&order).await["payment"].clone();
            assert_eq!((&payment["authorized"], &payment["captured"]), (&amount, &amount));
            assert_eq!(payment["state"], "paid");
        }
        // A fraction of a cent is rounded by nobody: a person looks at it.
        let held = deliver(&shop, 4, "USD", "10.005").await;
        assert_eq!(held["outcome"], "quarantined");
        let kept = shop.http.get(&format!("/v1/quarantine/{}", held["position"])).await.unwrap();
        assert_eq!(kept["code"], "mapping-failed");
        assert_eq!(kept["detail"], "amount `10.005` has more than the 2 decimal digits of USD");
        assert_eq!(code(shop.http.get("/v1/entities/order/web:4").await), "unknown-entity");
        for minor in [json!(1000.5), json!("10.005")] {
            let amount = json!({"currency": "USD", "minor": minor});
            let told = shop.tell("payment/p4", 1, json!({"order": "web:4", "kind": "capture", "amount": amount})).await;
            let refused = told.unwrap_err();
            assert_eq!(refused.code, "invalid-event", "{refused:?}");
            assert!(refused.field.ends_with("/amount/minor"), "{refused:?}");
        }
        shop.server.stop().await;
    }
}
