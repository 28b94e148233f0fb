//! `examples/shopify-stock` against a shop that compares before it sets, as Shopify's Admin API does.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Hub, SECRET, lockstep, until, write};
use serde_json::{Value, json};

/// What the shop has, and what it was asked.
#[derive(Default)]
struct Shop {
    available: Option<i64>,
    asked: Vec<(String, Value)>,
}

impl Shop {
    /// Answers as the interface does: 200, whatever became of it.
    fn answer(&mut self, head: &str, body: &Value) -> Value {
        let token = head.lines().find_map(|line| line.strip_prefix("x-shopify-access-token: ")).unwrap_or_default();
        self.asked.push((token.to_owned(), body.clone()));
        let level = &body["variables"]["input"]["quantities"][0];
        let from = level["changeFromQuantity"].as_i64();
        if from.is_some() && from != self.available {
            let error = json!([{"code": "CHANGE_FROM_QUANTITY_STALE", "field": null, "message": "stale"}]);
            return json!({"data": {"inventorySetQuantities": {"inventoryAdjustmentGroup": null, "userErrors": error}}});
        }
        self.available = level["quantity"].as_i64();
        json!({"data": {"inventorySetQuantities": {"inventoryAdjustmentGroup": {"id": "gid"}, "userErrors": []}}})
    }
}

fn open(shop: Arc<Mutex<Shop>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut text, mut part) = (Vec::new(), [0; 4096]);
            let asked = loop {
                let Ok(length @ 1..) = stream.read(&mut part) else { break None };
                text.extend_from_slice(&part[..length]);
                let seen = String::from_utf8_lossy(&text).into_owned();
                let Some((head, body)) = seen.split_once("\r\n\r\n") else { continue };
                if let Ok(body) = serde_json::from_str::<Value>(body) {
                    break Some((head.to_lowercase(), body));
                }
            };
            let Some((head, body)) = asked else { continue };
            let answer = shop.lock().unwrap().answer(&head, &body).to_string();
            let length = answer.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}");
        }
    });
    address
}

#[test]
fn a_shop_is_told_what_it_may_sell_and_refuses_what_it_does_not_have_any_more() {
    let shop = Arc::new(Mutex::new(Shop::default()));
    let address = open(shop.clone());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shopify-stock");
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(example.join("lockstep.toml")).unwrap();
    let url = format!("http://{address}/admin/api/2026-04/graphql.json\"\nallow_private_addresses = true");
    let config = config.replace("https://example.myshopify.com/admin/api/2026-04/graphql.json\"", &url);
    write(folder.path(), "lockstep.toml", &config);
    let mapping = std::fs::read_to_string(example.join("maps/inventory.vrl")).unwrap();
    write(folder.path(), "maps/inventory.vrl", &mapping);
    let signing = ("SIGNING_SECRET", "c2VjcmV0LW9mLXRoZS1zaG9wcw==");
    let secrets = [("SHOP_SECRET", SECRET), signing, ("SHOPIFY_TOKEN", "token-of-the-shop")];
    let args = ["key", "create", "--name", "tests", "--scopes", "admin", "--system", "wms"];
    let made = common::finish(lockstep().envs(secrets).current_dir(folder.path()).args(args)).expect(0);
    write(folder.path(), "tests.key", made.out.trim());
    let mut serve = lockstep();
    serve.envs(secrets).args(["serve", "--listen", "127.0.0.1:0"]);
    let hub = Hub::of(folder.path(), serve);

    let put = |number: u32, path: &str, body: Value| {
        let (bearer, key) = (format!("Bearer {}", hub.key), format!("call-{number}"));
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key.as_str()),
        ];
        let (status, answer) = hub.http("PUT", path, &headers, body.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
    };
    let count = |number: u32, quantity: i64, time: &str| {
        put(number, "/v1/stock/MUG-1/berlin/count", json!({"basis": "on_hand", "quantity": quantity, "as_of": time}));
    };
    put(1, "/v1/channels/web/policy", json!({}));
    count(2, 10, "2026-01-01T00:00:00Z");
    until("the first level", || (shop.lock().unwrap().available == Some(10)).then_some(()));
    count(3, 8, "2026-01-02T00:00:00Z");
    until("the second level", || (shop.lock().unwrap().available == Some(8)).then_some(()));
    let (token, asked) = shop.lock().unwrap().asked.last().cloned().unwrap();
    assert_eq!(token, "token-of-the-shop");
    let level = &asked["variables"]["input"]["quantities"][0];
    assert_eq!((&level["quantity"], &level["changeFromQuantity"]), (&json!(8), &json!(8 + 2)));
    assert_eq!(level["inventoryItemId"], "gid://shopify/InventoryItem/1001");

    // The shop sells one, and nobody has told of it yet: what it has is not written over.
    shop.lock().unwrap().available = Some(7);
    count(4, 5, "2026-01-03T00:00:00Z");
    let letters = until("the dead letter", || {
        let letters = hub.get("/v1/dead-letters")["items"].clone();
        letters.as_array().is_some_and(|letters| !letters.is_empty()).then_some(letters)
    });
    assert_eq!((letters.as_array().unwrap().len(), shop.lock().unwrap().available), (1, Some(7)));
}
