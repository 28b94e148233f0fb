//! `/v1/conflicts` and `/v1/preferences`.

use http::Method;
use lockstep_api::Scope;
use lockstep_core::merge::{Latest, Policy, Review};
use lockstep_core::{Domain, Rules};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup};

const NOTE: &str = "/v1/conflicts/order/web:1/note";

fn rules() -> Rules {
    let review = || Policy::Review(Review::default());
    let ties = Policy::Latest(Latest { ties_to_review: true });
    let fields = [
        ("note".to_owned(), review()),
        ("shipping_address".to_owned(), review()),
        ("lines[]".to_owned(), review()),
        ("phone".to_owned(), ties),
    ];
    let mut rules = Rules::new();
    rules.declare(Domain { kind: "order".into(), fields: fields.into(), ..Domain::default() });
    rules
}

/// A hub with the systems `erp` (the admin's key) and `shop`.
pub(crate) struct Desk {
    pub(crate) server: Server,
    shop: String,
}

impl Desk {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let server = Server::with(Setup { hub: Box::new(|options| options.rules = rules()), ..setup }).await;
        server.keys.revoke("shop").unwrap();
        let shop = server.keys.create("shop", &[Scope::Write], Some("shop"), None).unwrap();
        Self { server, shop }
    }

    /// Has a system say something of the order, at a second of its own clock.
    async fn says(&self, system: &str, second: u32, fields: Value) {
        self.says_of("web:1", system, &format!("2026-01-02T03:04:{second:02}Z"), fields).await;
    }

    async fn says_of(&self, key: &str, system: &str, time: &str, fields: Value) {
        let event = json!({
            "specversion": "1.0", "id": format!("{key} {system} {time}"), "source": "/test", "type": "order.changed",
            "subject": format!("order/{key}"), "time": time, "data": fields,
        });
        let bearer = format!("Bearer {}", if system == "erp" { &self.server.admin } else { &self.shop });
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/cloudevents+json")];
        self.server.send(Method::POST, "/v1/events", &headers, event.to_string()).await.ok();
    }

    pub(crate) async fn disagree(&self) {
        self.says("shop", 1, json!({"note": "leave at the door"})).await;
        self.says("erp", 2, json!({"note": "ring twice"})).await;
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: &str) -> Answer {
        let headers = [("idempotency-key", key), ("content-type", "application/json")];
        self.server.call(method, path, &headers, body.to_owned()).await
    }

    async fn resolve(&self, key: &str, body: Value) -> Answer {
        self.send(Method::POST, &format!("{NOTE}/resolve"), key, &body.to_string()).await
    }

    async fn reverse(&self, key: &str, reason: &str) -> Answer {
        self.send(Method::POST, &format!("{NOTE}/reverse"), key, &json!({"reason": reason}).to_string()).await
    }

    /// The status of the conflict about the note, and what the order says.
    async fn note(&self) -> (String, Value) {
        let status = self.server.get(NOTE).await.ok()["status"].as_str().unwrap().to_owned();
        let order = self.server.get("/v1/entities/order/web:1").await.ok();
        (status, order["document"]["note"].clone())
    }

    async fn conflict_events(&self) -> Vec<String> {
        let events = self.server.get("/v1/events?kind=conflict").await.ok();
        events["items"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
    }
}

fn open(note: &str) -> (String, Value) {
    ("open".to_owned(), note.into())
}

fn resolved(note: &str) -> (String, Value) {
    ("resolved".to_owned(), note.into())
}

#[tokio::test]
async fn a_conflict_is_shown_with_its_candidates_and_where_they_differ() {
    let desk = Desk::start().await;
    let address =
        |city: &str, line2: Value| json!({"shipping_address": {"city": city, "country": "DE", "line2": line2}});
    desk.says("shop", 1, address("Berlin", Value::Null)).await;
    assert_eq!(desk.server.get("/v1/conflicts").await.ok(), json!({"items": [], "next_after": null}));
    desk.says("erp", 2, address("Bremen", Value::Null)).await;
    assert_eq!(desk.conflict_events().await, ["conflict.opened"]);
    let listed = desk.server.get("/v1/conflicts").await.ok();
    let answer = desk.server.get("/v1/conflicts/order/web:1/shipping_address").await;
    assert_eq!(answer.header("etag"), "\"1\"");
    let shown = answer.ok();
    for conflict in [&listed["items"][0], &shown] {
        assert_eq!(
            (&conflict["kind"], &conflict["key"], &conflict["field"], &conflict["status"], &conflict["policy"]),
            (&json!("order"), &json!("web:1"), &json!("shipping_address"), &json!("open"), &json!("review"))
        );
        assert_eq!(conflict["standing"]["city"], "Berlin");
        let said: Vec<_> = conflict["candidates"].as_array().unwrap().iter().collect();
        let told = |c: &Value| (c["system"].clone(), c["value"]["city"].clone(), c["occurred_at"].clone());
        assert_eq!(told(said[0]), (json!("shop"), json!("Berlin"), json!("2026-01-02T03:04:01.000000Z")));
        assert_eq!(told(said[1]), (json!("erp"), json!("Bremen"), json!("2026-01-02T03:04:02.000000Z")));
        assert_eq!((&conflict["decision"], &conflict["version"]), (&json!(null), &json!(1)));
    }
    assert_eq!(shown["differences"], json!([{"pointer": "/city", "values": {"erp": "Bremen", "shop": "Berlin"}}]));
    assert_eq!(shown["entity_version"], 1);
    desk.says("erp", 3, address("Bremen", json!("2nd floor"))).await;
    assert_eq!(desk.conflict_events().await, ["conflict.opened", "conflict.changed"]);
    let shown = desk.server.get("/v1/conflicts/order/web:1/shipping_address").await.ok();
    assert_eq!(shown["differences"][1], json!({"pointer": "/line2", "values": {"erp": "2nd floor", "shop": null}}));
    desk.says("erp", 4, address("Berlin", Value::Null)).await;
    let shown = desk.server.get("/v1/conflicts/order/web:1/shipping_address").await.ok();
    assert_eq!((&shown["status"], &shown["rule"]), (&json!("resolved"), &json!("agreed")), "without a person");
    desk.server.stop().await;
}

#[tokio::test]
async fn a_person_decides_for_a_side_and_a_newer_write_opens_it_again() {
    let desk = Desk::start().await;
    desk.disagree().await;
    assert_eq!(desk.note().await, open("leave at the door"));
    let body = json!({"prefer": "erp", "reason": "the customer called"});
    let answer = desk.resolve("k1", body.clone()).await.ok();
    assert_eq!((&answer["outcome"]["outcome"], &answer["conflict"]["status"]), (&json!("applied"), &json!("resolved")));
    assert_eq!(desk.note().await, resolved("ring twice"));
    let decision = &answer["conflict"]["decision"];
    assert_eq!(
        (&decision["action"], &decision["system"], &decision["by"], &decision["reason"], &decision["always"]),
        (&json!("prefer"), &json!("erp"), &json!("admin"), &json!("the customer called"), &json!(false))
    );
    // The event of the end has the decision with it.
    let events = desk.server.get("/v1/events?type=conflict.resolved").await.ok();
    assert_eq!(events["items"][0]["data"]["document"]["decision"], *decision);
    assert!(desk.server.get("/v1/conflicts").await.ok()["items"].as_array().unwrap().is_empty());

    // A repetition is one, whatever has become of the conflict; another request comes too late.
    assert_eq!(desk.resolve("k1", body.clone()).await.ok()["outcome"]["outcome"], "duplicate");
    desk.resolve("k1", json!({"prefer": "shop", "reason": "x"})).await.problem(422, "key-reused");
    let late = desk.resolve("k2", body.clone()).await.problem(409, "conflict-not-open");
    assert_eq!(late["detail"], "the conflict about `note` of `order/web:1` is resolved, there is nothing to decide");

    // What a system said before the decision and says again is nothing new.
    desk.says("shop", 3, json!({"note": "leave at the door"})).await;
    assert_eq!(desk.note().await, resolved("ring twice"));
    desk.says_of("web:1", "shop", "2099-01-01T00:00:00Z", json!({"note": "at the back"})).await;
    assert_eq!(desk.note().await, open("ring twice"));
    assert_eq!(desk.resolve("k1", body).await.ok()["outcome"]["outcome"], "duplicate");

    // That clock is far ahead, and a person's word comes after what it was said about all the same; also the same
    // word once more.
    let answer = desk.resolve("k3", json!({"prefer": "@operator", "reason": "as before"})).await.ok();
    assert_eq!(answer["conflict"]["status"], "resolved");
    assert_eq!(desk.note().await, resolved("ring twice"));
    let history = desk.server.get("/v1/entities/conflict/order%2Fweb:1%23note/history").await.ok();
    let said = history["items"].as_array().unwrap().iter().filter_map(|i| i["fields"]["decision"]["reason"].as_str());
    assert_eq!(said.collect::<Vec<_>>(), ["as before", "the customer called"]);
    desk.server.stop().await;
}

#[tokio::test]
async fn a_value_of_no_system_is_checked_by_the_schema() {
    let desk = Desk::start().await;
    desk.disagree().await;
    let problem = desk.resolve("k1", json!({"value": 7, "reason": "x"})).await.problem(422, "invalid-event");
    assert_eq!((&problem["pointer"], &problem["reason"]), (&json!("/note"), &json!("schema")));
    assert!(problem["detail"].as_str().unwrap().contains("`/note` must be"), "{problem}");
    let answer = desk.resolve("k1", json!({"value": "ring once", "reason": "asked"})).await.ok();
    assert_eq!(answer["conflict"]["decision"]["value"], "ring once");
    assert_eq!((&answer["conflict"]["standing"], desk.note().await), (&json!("ring once"), resolved("ring once")));

    let lines = |ordered: i64| json!({"lines": [{"id": "1", "ordered": ordered}]});
    desk.says("shop", 3, lines(1)).await;
    desk.says("erp", 4, lines(2)).await;
    let path = "/v1/conflicts/order/web:1/lines%5B1%5D";
    let shown = desk.server.get(path).await.ok();
    assert_eq!(shown["differences"], json!([{"pointer": "/ordered", "values": {"erp": 2, "shop": 1}}]));
    let resolve = |key: &'static str, value: Value| {
        let (path, body) = (format!("{path}/resolve"), json!({"value": value, "reason": "counted"}).to_string());
        let desk = &desk;
        async move { desk.send(Method::POST, &path, key, &body).await }
    };
    let problem = resolve("l1", json!({"id": "1", "ordered": true})).await.problem(422, "invalid-event");
    assert_eq!(problem["pointer"], "/lines/0/ordered");
    resolve("l1", json!({"id": "2", "ordered": 3})).await.problem(422, "invalid-event");
    resolve("l1", json!({"id": "1", "ordered": 3})).await.ok();
    let order = desk.server.get("/v1/entities/order/web:1").await.ok();
    assert_eq!(order["document"]["lines"], json!([{"id": "1", "ordered": 3}]));
    desk.server.stop().await;
}

#[tokio::test]
async fn a_decision_is_taken_back() {
    let desk = Desk::start().await;
    desk.disagree().await;
    desk.reverse("r0", "nothing yet").await.problem(409, "not-decided");
    desk.resolve("k1", json!({"value": null, "reason": "nobody knows"})).await.ok();
    assert_eq!(desk.note().await, ("resolved".to_owned(), Value::Null));
    let answer = desk.reverse("r1", "a mistake").await.ok();
    assert_eq!(answer["conflict"]["status"], "open");
    let decision = &answer["conflict"]["decision"];
    assert_eq!((&decision["action"], &decision["reason"]), (&json!("reverse"), &json!("a mistake")));
    assert_eq!(desk.note().await, open("leave at the door"));
    assert_eq!(desk.reverse("r1", "a mistake").await.ok()["outcome"]["outcome"], "duplicate");
    desk.reverse("r2", "again").await.problem(409, "not-decided");
    // Where the systems agree by now, nothing opens.
    desk.resolve("k2", json!({"prefer": "shop", "reason": "x"})).await.ok();
    desk.says_of("web:1", "erp", "2099-01-01T00:00:00Z", json!({"note": "leave at the door"})).await;
    desk.reverse("r3", "not needed").await.ok();
    assert_eq!(desk.note().await, resolved("leave at the door"));
    let all = ["opened", "changed", "resolved", "changed", "opened", "changed", "resolved", "changed"];
    let all: Vec<_> = all.iter().map(|verb| format!("conflict.{verb}")).collect();
    assert_eq!(desk.conflict_events().await[..all.len()], all[..]);
    desk.server.stop().await;
}

#[tokio::test]
async fn a_system_that_is_always_preferred_is_so_after_a_restart_too() {
    let desk = Desk::start().await;
    desk.disagree().await;
    desk.resolve("k1", json!({"prefer": "erp", "always": true, "reason": "it knows"})).await.ok();
    let listed = desk.server.get("/v1/preferences").await.ok();
    let preference = &listed["items"][0];
    assert_eq!(
        (&preference["kind"], &preference["field"], &preference["system"], &preference["decision"]["reason"]),
        (&json!("order"), &json!("note"), &json!("erp"), &json!("it knows"))
    );
    let folder = desk.server.stop().await;

    let desk = Desk::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    desk.says_of("web:1", "shop", "2098-01-01T00:00:00Z", json!({"note": "over the fence"})).await;
    assert_eq!(desk.note().await, resolved("ring twice"), "nobody is asked again");
    desk.says_of("web:1", "erp", "2099-01-01T00:00:00Z", json!({"note": "at the back"})).await;
    assert_eq!(desk.note().await, resolved("at the back"));
    desk.says_of("web:2", "shop", "2026-01-01T00:00:00Z", json!({"note": "1"})).await;
    desk.says_of("web:2", "erp", "2026-01-01T00:00:01Z", json!({"note": "2"})).await;
    desk.server.get("/v1/conflicts/order/web:2/note").await.problem(404, "unknown-conflict");

    let path = "/v1/preferences/order/note";
    let body = r#"{"system": "shop", "reason": "the season has begun"}"#;
    assert_eq!(desk.send(Method::PUT, path, "p1", body).await.status, 204);
    assert_eq!(desk.send(Method::PUT, path, "p1", body).await.status, 204, "a repetition");
    assert_eq!(desk.server.get("/v1/preferences").await.ok()["items"][0]["system"], "shop");
    assert_eq!(desk.send(Method::DELETE, &format!("{path}?reason=over"), "p2", "").await.status, 204);
    assert_eq!(desk.server.get("/v1/preferences").await.ok(), json!({"items": [], "next_after": null}));
    assert_eq!(desk.send(Method::DELETE, &format!("{path}?reason=over"), "p2", "").await.status, 204);
    desk.send(Method::DELETE, &format!("{path}?reason=over"), "p3", "").await.problem(404, "unknown-preference");
    desk.says_of("web:3", "shop", "2026-01-01T00:00:00Z", json!({"note": "1"})).await;
    desk.says_of("web:3", "erp", "2026-01-01T00:00:01Z", json!({"note": "2"})).await;
    assert_eq!(desk.server.get("/v1/conflicts/order/web:3/note").await.ok()["status"], "open");
    desk.server.stop().await;
}

#[tokio::test]
async fn conflicts_are_listed_in_parts_by_status_and_kind() {
    let desk = Desk::start().await;
    for n in 1..=5 {
        let key = format!("web:{n}");
        desk.says_of(&key, "shop", "2026-01-01T00:00:00Z", json!({"note": "1"})).await;
        desk.says_of(&key, "erp", "2026-01-01T00:00:01Z", json!({"note": "2"})).await;
    }
    desk.resolve("k", json!({"prefer": "shop", "reason": "x"})).await.ok();
    let keys = |query: &'static str| {
        let server = &desk.server;
        async move {
            let page = server.get(&format!("/v1/conflicts{query}")).await.ok();
            let keys: Vec<_> =
                page["items"].as_array().unwrap().iter().map(|i| i["key"].as_str().unwrap().to_owned()).collect();
            (keys.join(" "), page["next_after"].clone())
        }
    };
    assert_eq!(keys("").await, ("web:2 web:3 web:4 web:5".into(), Value::Null));
    assert_eq!(keys("?status=resolved").await, ("web:1".into(), Value::Null));
    assert_eq!(keys("?status=all&limit=2").await, ("web:1 web:2".into(), json!("order/web:2#note")));
    assert_eq!(keys("?status=all&limit=2&after=order/web:2%23note").await.0, "web:3 web:4");
    assert_eq!(keys("?kind=order&after=order/web:4%23note").await, ("web:5".into(), Value::Null));
    for other in ["?kind=orde", "?kind=price", "?kind=z"] {
        assert_eq!(keys(other).await, (String::new(), Value::Null), "{other}");
    }
    desk.server.stop().await;
}

#[tokio::test]
async fn what_is_decided_is_what_was_looked_at() {
    let desk = Desk::start().await;
    desk.disagree().await;
    desk.says("erp", 3, json!({"note": "ring thrice"})).await;
    let resolve = |tag: &'static str| {
        let headers = [("idempotency-key", "k"), ("content-type", "application/json"), ("if-match", tag)];
        let body = r#"{"prefer": "erp", "reason": "x"}"#;
        let server = &desk.server;
        async move { server.call(Method::POST, &format!("{NOTE}/resolve"), &headers, body).await }
    };
    assert_eq!(resolve("\"1\"").await.problem(412, "version-mismatch")["current_version"], 2);
    resolve("\"2\"").await.ok();
    assert_eq!(resolve("\"2\"").await.ok()["outcome"]["outcome"], "duplicate");
    assert_eq!(desk.note().await, resolved("ring thrice"));
    desk.server.stop().await;
}

#[tokio::test]
async fn of_two_who_decide_at_once_one_has_decided() {
    let desk = Desk::start().await;
    desk.disagree().await;
    let decide = |key: &'static str, system: &str| desk.resolve(key, json!({"prefer": system, "reason": "x"}));
    let (a, b) = tokio::join!(decide("a", "shop"), decide("b", "erp"));
    let (won, lost) = if a.status == 200 { (a, b) } else { (b, a) };
    lost.problem(409, "conflict-not-open");
    let system = won.ok()["conflict"]["decision"]["system"].clone();
    let shown = desk.server.get(NOTE).await.ok();
    assert_eq!((&shown["decision"]["system"], &shown["status"]), (&system, &json!("resolved")));
    desk.server.stop().await;
}

#[tokio::test]
async fn a_conflict_goes_on_where_it_was_when_a_deletion_ends_it() {
    let desk = Desk::start().await;
    desk.disagree().await;
    desk.resolve("k", json!({"prefer": "erp", "reason": "x"})).await.ok();
    desk.reverse("r", "y").await.ok();
    let before = desk.server.get(NOTE).await.ok()["version"].as_u64().unwrap();
    let event = json!({
        "specversion": "1.0", "id": "gone", "source": "/test", "type": "order.deleted", "subject": "order/web:1",
        "time": "2026-01-02T03:04:30Z",
    });
    desk.server.event(&event).await.ok();
    let conflict = desk.server.get(NOTE).await.ok();
    assert_eq!((&conflict["status"], &conflict["rule"]), (&json!("resolved"), &json!("only")));
    assert_eq!((&conflict["version"], &conflict["decision"]["reason"]), (&json!(before + 1), &json!("y")));
    desk.server.stop().await;
}

#[tokio::test]
async fn an_open_conflict_ends_with_the_policy_that_has_opened_it() {
    let desk = Desk::start().await;
    desk.disagree().await;
    desk.says("erp", 3, json!({"note": "ring thrice"})).await;
    let folder = desk.server.stop().await;
    // Another configuration: the latest write wins.
    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    let patch = [("idempotency-key", "p"), ("content-type", "application/json")];
    server.call(Method::PATCH, "/v1/entities/order/web:1", &patch, r#"{"note": "knock"}"#).await.ok();
    let conflict = server.get(NOTE).await.ok();
    assert_eq!((&conflict["status"], &conflict["rule"]), (&json!("resolved"), &json!("latest")));
    assert_eq!((&conflict["standing"], &conflict["version"]), (&json!("knock"), &json!(3)));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_valid_says_what_would_be_right() {
    let desk = Desk::start().await;
    desk.disagree().await;
    let server = &desk.server;
    let nowhere = "/v1/conflicts/order/web:9/note";
    server.get(nowhere).await.problem(404, "unknown-conflict");
    server.get("/v1/conflicts/order/web:1/total").await.problem(404, "unknown-conflict");
    server.get("/v1/conflicts?status=closed").await.problem(400, "invalid-parameter");
    server.get("/v1/conflicts?kind=Order").await.problem(400, "invalid-parameter");
    server.get("/v1/conflicts?system=erp").await.problem(400, "invalid-parameter");
    server.get("/v1/preferences?kind=order").await.problem(400, "invalid-parameter");
    for (body, pointer) in [
        (json!({"prefer": "erp", "reason": " "}), Some("/reason")),
        (json!({"prefer": "erp", "value": null, "reason": "x"}), Some("")),
        (json!({"reason": "x"}), Some("")),
        (json!({"value": "x", "always": true, "reason": "x"}), Some("/always")),
        (json!({"prefer": "@operator", "always": true, "reason": "x"}), Some("/always")),
        (json!({"prefer": "erp"}), None),
        (json!({"prefer": "erp", "reason": "x", "allways": true}), None),
    ] {
        let problem = desk.resolve("k", body).await.problem(400, "invalid-body");
        assert_eq!(problem["pointer"].as_str(), pointer, "{problem}");
    }
    let problem = desk.resolve("k", json!({"prefer": "pim", "reason": "x"})).await.problem(422, "no-candidate");
    assert_eq!(problem["detail"], "`prefer` must be one of `shop`, `erp`, not `pim`");
    for action in ["resolve", "reverse"] {
        let path = format!("{NOTE}/{action}");
        let body = r#"{"value": "x", "reason": "x"}"#;
        let body = if action == "resolve" { body } else { r#"{"reason": "x"}"# };
        server.post(&path).await.problem(415, "unsupported-media-type");
        let json_type = [("content-type", "application/json")];
        server.call(Method::POST, &path, &json_type, body).await.problem(400, "idempotency-key-missing");
        desk.send(Method::POST, &path, "k", "{").await.problem(400, "invalid-body");
        desk.send(Method::POST, &path, "a\"b", body).await.problem(400, "invalid-header");
        let elsewhere = format!("{nowhere}/{action}");
        desk.send(Method::POST, &elsewhere, "k", body).await.problem(404, "unknown-conflict");
        let bearer = format!("Bearer {}", desk.shop);
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k"), json_type[0]];
        server.send(Method::POST, &path, &headers, body).await.problem(403, "scope-missing");
    }
    desk.reverse("k", "").await.problem(400, "invalid-body");

    // Only `review` knows a preference.
    desk.says("shop", 5, json!({"phone": "1"})).await;
    desk.says("erp", 5, json!({"phone": "2"})).await;
    let always = r#"{"prefer": "erp", "always": true, "reason": "x"}"#;
    let phone = "/v1/conflicts/order/web:1/phone/resolve";
    desk.send(Method::POST, phone, "k", always).await.problem(422, "not-reviewed");
    let answer = desk.send(Method::POST, phone, "k", r#"{"prefer": "erp", "reason": "x"}"#).await.ok();
    assert_eq!((&answer["conflict"]["status"], &answer["conflict"]["rule"]), (&json!("resolved"), &json!("latest")));

    let put = |path: &'static str, body: &'static str| desk.send(Method::PUT, path, "p", body);
    let good = r#"{"system": "erp", "reason": "x"}"#;
    put("/v1/preferences/order/total", good).await.problem(422, "not-reviewed");
    put("/v1/preferences/nothing/note", good).await.problem(422, "not-reviewed");
    put("/v1/preferences/Order/note", good).await.problem(400, "invalid-parameter");
    put("/v1/preferences/order/lines%5B1%5D", good).await.problem(400, "invalid-parameter");
    assert_eq!(put("/v1/preferences/order/lines%5B%5D", good).await.status, 204);
    put("/v1/preferences/order/note", r#"{"system": "@operator", "reason": "x"}"#).await.problem(400, "invalid-body");
    put("/v1/preferences/order/note", r#"{"system": "erp"}"#).await.problem(400, "invalid-body");
    put("/v1/preferences/order/note", r#"{"system": "erp", "reason": ""}"#).await.problem(400, "invalid-body");
    put("/v1/preferences/order/note", good).await.problem(422, "key-reused");
    desk.send(Method::DELETE, "/v1/preferences/order/note", "d", "").await.problem(400, "invalid-parameter");
    server
        .call(Method::DELETE, "/v1/preferences/order/note?reason=x", &[], "")
        .await
        .problem(400, "idempotency-key-missing");
    desk.server.stop().await;
}

#[tokio::test]
async fn nobody_outside_speaks_for_the_hub_or_a_person() {
    let desk = Desk::start().await;
    for (kind, key) in [("conflict", "order/web:1#note"), ("preference", "order:note")] {
        let event = json!({
            "specversion": "1.0", "id": kind, "source": "/test", "type": format!("{kind}.changed"),
            "subject": format!("{kind}/{key}"), "data": {"status": "resolved", "system": "erp"},
        });
        let problem = desk.server.event(&event).await.problem(422, "invalid-event");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("unknown kind `{kind}`")), "{problem}");
        let gone = json!({
            "specversion": "1.0", "id": format!("{kind} gone"), "source": "/test", "type": format!("{kind}.deleted"),
            "subject": format!("{kind}/{key}"),
        });
        desk.server.event(&gone).await.problem(422, "invalid-event");
        let path = format!("/v1/entities/{kind}/x");
        desk.send(Method::PATCH, &path, kind, r#"{"system": "erp"}"#).await.problem(422, "invalid-event");
        assert_eq!(desk.server.get(&format!("/v1/entities/{kind}")).await.ok()["items"], json!([]));
    }
    for system in ["@operator", "@hub"] {
        let refused = desk.server.keys.create(system, &[Scope::Write], Some(system), None);
        assert!(refused.unwrap_err().to_string().starts_with("a system's name must be"), "{system}");
    }
    desk.server.stop().await;
}
