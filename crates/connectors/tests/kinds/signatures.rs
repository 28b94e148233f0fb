//! Outgoing signatures, verified by libraries that are not ours.

use std::io::Write;
use std::process::Stdio;

use lockstep_connect::destination::{Destination, Filter, Outlet, kit};
use lockstep_connect::signature::Secret;
use lockstep_connectors::webhook::{WebhookConfig, WebhookDestination};
use lockstep_core::delivery::AttemptResult;
use serde_json::{Value, json};

use crate::common::{Got, Server, reply};
use crate::python;

const OLD: &str = "whsec_aW52ZW50ZWQgc2VjcmV0IG51bWJlciBvbmU=";
const NEW: &str = "whsec_aW52ZW50ZWQgc2VjcmV0IG51bWJlciB0d28=";
const OTHER: &str = "whsec_aW52ZW50ZWQgc2VjcmV0IG51bWJlciB0ZW4=";

/// What a receiver gets of a delivery that is signed like this.
async fn delivered(signature: Value, secrets: &[&str]) -> Got {
    let server = Server::start(|_| reply(204, &[], "")).await;
    let mut config = json!({"url": server.url(), "allow_private_addresses": true, "timeout_ms": 60_000});
    config["signature"] = signature;
    let config: WebhookConfig = serde_json::from_value(config).unwrap();
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    let outlet = Outlet::new("/hubs/test", Filter::default());
    let destination = WebhookDestination::new(&config, &secrets, outlet).unwrap();
    let event = kit::event(41, "order", "web:7", &[("lifecycle", r#""confirmed""#), ("note", r#""für \"A\" 🙂""#)]);
    let prepared = destination.prepare(&event).unwrap().unwrap();
    let sent = destination.send(&prepared, 1).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    server.got().pop().unwrap()
}

/// The request as the script takes it, with how it shall look at it.
fn asked(got: &Got, secret: &str, how: Value) -> Value {
    let headers: serde_json::Map<String, Value> =
        got.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    let mut asked = json!({"secret": secret, "headers": headers, "body": std::str::from_utf8(&got.body).unwrap()});
    asked.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
    asked
}

/// The verdict of each, in order; nothing where there is no Python.
fn verdicts(requests: &[Value]) -> Option<Vec<String>> {
    let mut command = python::script("verify.py")?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for request in requests {
        writeln!(stdin, "{request}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let verdicts: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), requests.len());
    Some(verdicts)
}

#[tokio::test]
async fn foreign_libraries_take_each_scheme_under_both_secrets_of_a_rotation() {
    let standard = (json!(null), json!({"how": "standard"}));
    let stripe = (json!({"scheme": "timestamped", "header": "Stripe-Signature"}), json!({"how": "stripe"}));
    let mut requests = Vec::new();
    for (signature, how) in [standard, stripe] {
        let got = delivered(signature, &[NEW, OLD]).await;
        for secret in [NEW, OLD, OTHER] {
            requests.push(asked(&got, secret, how.clone()));
        }
        let mut changed = asked(&got, NEW, how);
        changed["body"] = changed["body"].as_str().unwrap().replace("confirmed", "cancelled").into();
        requests.push(changed);
    }
    let Some(verdicts) = verdicts(&requests) else { return };
    for verdicts in verdicts.chunks(4) {
        assert_eq!(verdicts[..2], ["authentic", "authentic"], "{verdicts:?}");
        assert!(verdicts[2..].iter().all(|verdict| verdict.contains("erif")), "{verdicts:?}");
    }
}

#[tokio::test]
async fn plain_hmacs_are_what_receivers_compute() {
    let github = json!({"scheme": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256=",
        "further_header": "X-Hub-Signature-Old"});
    let github = delivered(github, &[NEW, OLD]).await;
    let at = |header: &str| json!({"how": "plain", "encoding": "hex", "prefix": "sha256=", "header": header});
    let long = json!({"scheme": "hmac", "header": "X-Sign", "algorithm": "sha512", "encoding": "base64"});
    let long = delivered(long, &[OLD]).await;
    let shopify = delivered(json!({"scheme": "shopify"}), &[OLD]).await;
    let shopifys = json!({"how": "plain", "encoding": "base64", "header": "x-shopify-hmac-sha256"});
    let requests = [
        asked(&github, NEW, at("x-hub-signature-256")),
        asked(&github, OLD, at("x-hub-signature-old")),
        asked(&long, OLD, json!({"how": "plain", "encoding": "base64", "hash": "sha512", "header": "x-sign"})),
        asked(&shopify, OLD, shopifys.clone()),
        asked(&github, OLD, at("x-hub-signature-256")),
        asked(&shopify, NEW, shopifys),
    ];
    for got in [&github, &long, &shopify] {
        assert_eq!(got.headers["webhook-id"], "41", "the id comes with every scheme");
        assert!(!got.headers.contains_key("webhook-signature"));
    }
    let Some(verdicts) = verdicts(&requests) else { return };
    assert_eq!(verdicts[..4], ["authentic"; 4], "{verdicts:?}");
    assert!(verdicts[4..].iter().all(|verdict| verdict.starts_with("ValueError")), "{verdicts:?}");
}
