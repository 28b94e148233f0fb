//! The chat destination against a real server on loopback that answers as chats do.

use lockstep_connect::destination::{Destination, Filter, Outlet, kit};
use lockstep_connect::signature::Secret;
use lockstep_connectors::DestinationConfig;
use lockstep_connectors::webhook::chain;
use lockstep_core::delivery::AttemptResult;
use lockstep_mapping::Program;
use serde_json::{Value, json};

use crate::common::{Server, reply};

fn built(more: Value, secrets: &[&str]) -> Result<Box<dyn Destination>, String> {
    let mut config = json!({"kind": "chat", "allow_private_addresses": true, "timeout_ms": 60_000});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: DestinationConfig = serde_json::from_value(config).unwrap();
    let mut outlet = Outlet::new("/hubs/test", Filter::default());
    if let Some(source) = more["mapping"].as_str() {
        outlet = outlet.with_mapping(Program::compile("maps/chat.vrl", source).unwrap());
    }
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    config.build(&secrets, outlet).map_err(|error| chain(&error))
}

/// What the chat gets of an event.
async fn told(more: Value) -> Value {
    let server = Server::start(|_| reply(200, &[], "ok")).await;
    let destination = built(more, &[&server.url()]).unwrap();
    let event = kit::event(41, "order", "web:7", &[("note", r#""<!channel> & more""#)]);
    let prepared = destination.prepare(&event).unwrap().unwrap();
    assert_eq!(destination.send(&prepared, 1).await.result, AttemptResult::Delivered);
    let got = server.got().pop().unwrap();
    assert_eq!(
        (got.headers["content-type"].as_bytes(), got.headers["idempotency-key"].as_bytes()),
        (&b"application/json"[..], &b"41"[..])
    );
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test]
async fn keeps_to_the_contract_of_all_destinations() {
    for more in [json!({}), json!({"mapping": ".data.key"}), json!({"mapping": "{ \"content\": .data.key }"})] {
        let server = Server::start(|_| reply(200, &[], "ok")).await;
        let mut more = more.clone();
        more["timeout_ms"] = 2_000.into();
        kit::check(built(more, &[&server.url()]).unwrap().as_ref(), &server).await;
    }
}

#[tokio::test]
async fn a_text_is_put_into_what_the_chat_takes() {
    assert_eq!(told(json!({})).await, json!({"text": "order.changed order/web:7"}));
    let note = ".data.document.note";
    let slack = told(json!({"mapping": note})).await;
    assert_eq!(slack, json!({"text": "&lt;!channel&gt; &amp; more"}), "a customer's text mentions nobody");
    let teams = told(json!({"mapping": note, "format": "teams"})).await;
    let card = &teams["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(card["content"]["body"], json!([{"type": "TextBlock", "text": "<!channel> & more", "wrap": true}]));
    let own = told(json!({"mapping": "{ \"blocks\": [.data.key] }", "format": "teams"})).await;
    assert_eq!(own, json!({"blocks": ["web:7"]}));

    let number = built(json!({"mapping": "5", "url": "http://127.0.0.1:9/"}), &[]).unwrap();
    let error = number.prepare(&kit::event(1, "order", "1", &[])).unwrap_err();
    assert!(error.to_string().contains("must come to a text or an object (5)"), "{error}");
}

#[tokio::test]
async fn the_chats_limit_is_honoured() {
    let server = Server::start(|_| reply(429, &[("retry-after", "30")], "rate_limited")).await;
    let destination = built(json!({}), &[&server.url()]).unwrap();
    let prepared = destination.prepare(&kit::event(1, "order", "1", &[])).unwrap().unwrap();
    let sent = destination.send(&prepared, 1).await;
    assert_eq!(sent.result, AttemptResult::Throttled { retry_after_ms: Some(30_000) });
    assert_eq!((sent.response_head.as_str(), server.got().len()), ("rate_limited", 1));
}

#[test]
fn configuration_says_what_would_be_right_and_shows_no_address() {
    let check = |more: Value, secrets: &[&str], part: &str| {
        let error = built(more.clone(), secrets).err().unwrap_or_else(|| panic!("{more} is taken"));
        assert!(error.contains(part), "{more}: {error}");
        assert!(!error.contains("T0K3N"), "{error}");
    };
    let address = "https://hooks.example.com/T0K3N";
    check(json!({}), &[], "`secrets` must have the address");
    check(json!({}), &[address, address], "`secrets` must have one address");
    check(json!({}), &["hooks.example.com/T0K3N"], "`secrets` must have the address of the channel, beginning");
    check(json!({"url": "https://hooks.example.com/"}), &[address], "leave one of them out");
    check(json!({"allow_private_addresses": false}), &["http://10.0.0.1/T0K3N"], "`url` is refused");
    check(json!({"url": "hooks"}), &[], "`url` cannot be called");
    check(json!({"concurrency_max": 0}), &[address], "`concurrency_max` must be from 1");
    assert!(built(json!({}), &[address]).is_ok());
}
