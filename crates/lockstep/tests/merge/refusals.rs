//! What an order has come to refuses: an API client is told at once, in each way it may write, and nothing of it is
//! recorded.

use serde_json::{Value, json};

use crate::common::{Hub, folder, run};

/// A hub with a warehouse and an order management that write through the API.
struct World {
    hub: Hub,
    oms: String,
    wms: String,
    _folder: tempfile::TempDir,
}

/// A row of the case table: what had happened, and what an API client may not do then.
struct Row {
    name: &'static str,
    /// How far the order has come by its own word.
    lifecycle: &'static str,
    /// Units that a shipment of the warehouse carries, of five.
    ships: Option<u32>,
    asks: Value,
    /// What the answer says that would be right, or what is wrong.
    hints: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |name, lifecycle, ships, asks, hints| Row { name, lifecycle, ships, asks, hints };
    let cancel = || json!({ "lifecycle": "cancelled" });
    vec![
        row("cancel after a shipment of everything", "confirmed", Some(5), cancel(), "take a return"),
        row("cancel of a shipped order", "shipped", None, cancel(), "take a return"),
        row("cancel of a delivered order", "delivered", None, cancel(), "take a return"),
        row(
            "cancel of a shipped order by its date",
            "shipped",
            None,
            json!({ "cancelled_at": "2026-03-02T09:00:00Z" }),
            "take a return",
        ),
        row("cancel of a closed order", "closed", None, cancel(), "take a return"),
        row("edit of a cancelled order", "cancelled", None, json!({ "note": "Ring twice" }), "`note`"),
        row("edit of a closed order", "closed", None, json!({ "note": "Ring twice" }), "`note`"),
        row("edit of a cancelled order's lines", "cancelled", None, json!({ "lines": [line(6)] }), "`lines[1]`"),
        row("a cancelled order brought back", "cancelled", None, json!({ "lifecycle": "confirmed" }), "a new order"),
        row("a closed order brought back", "closed", None, json!({ "lifecycle": "pending" }), "a new order"),
    ]
}

fn line(ordered: u32) -> Value {
    json!({ "id": "1", "sku": "MUG-01", "ordered": ordered })
}

fn event(id: &str, subject: &str, minute: u32, data: Value) -> Value {
    let kind = subject.split('/').next().unwrap();
    json!({
        "specversion": "1.0", "id": id, "source": "/said", "type": format!("{kind}.changed"), "subject": subject,
        "time": format!("2026-03-01T09:{minute:02}:00Z"), "data": data,
    })
}

impl World {
    fn start() -> Self {
        let folder = folder("[systems.oms]\n\n[systems.wms]\n");
        let hub = Hub::start(folder.path());
        let key = |system: &str| {
            let args = ["key", "create", "--name", system, "--scopes", "write", "--system", system];
            run(folder.path(), &args).expect(0).out.trim().to_owned()
        };
        Self { hub, oms: key("oms"), wms: key("wms"), _folder: folder }
    }

    /// Has an order come as far as the row says; gives its id.
    fn order(&self, number: usize, row: &Row) -> String {
        let id = format!("order/web:{number}");
        let placed = json!({ "lifecycle": row.lifecycle, "lines": [line(5)], "currency": "EUR" });
        self.hub.event(&self.oms, &event(&format!("placed-{number}"), &id, 0, placed));
        if let Some(units) = row.ships {
            let shipment = json!({ "order": format!("web:{number}"), "lines": [{ "id": "1", "quantity": units }] });
            let told = event(&format!("shipped-{number}"), &format!("shipment/{number}"), 10, shipment);
            self.hub.event(&self.wms, &told);
        }
        id
    }

    fn post(&self, content: &str, body: &Value) -> (u16, Value) {
        let authorization = format!("Bearer {}", self.oms);
        let headers = [("authorization", authorization.as_str()), ("content-type", content)];
        let (status, answer) = self.hub.http("POST", "/v1/events", &headers, body.to_string().as_bytes());
        (status, serde_json::from_str(&answer).unwrap())
    }

    /// The number of the last record that is durable: whatever is recorded moves it on.
    fn recorded(&self) -> u64 {
        let (_, text) =
            self.hub.http("GET", "/metrics", &[("authorization", &format!("Bearer {}", self.hub.key))], b"");
        let line = text
            .lines()
            .find(|line| line.starts_with("lockstep_durable_position "))
            .unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[track_caller]
fn is_refused(row: &Row, (status, problem): (u16, Value)) {
    let name = row.name;
    assert_eq!((status, &problem["status"]), (409, &json!(409)), "{name}: {problem}");
    assert_eq!(problem["code"], "order-state", "{name}");
    assert_eq!(problem["type"], "urn:problem-type:lockstep:order-state", "{name}");
    assert!(problem["detail"].as_str().unwrap().contains(row.hints), "{name}: {problem}");
}

#[test]
fn what_an_order_has_come_to_refuses_each_row_of_the_case_table_and_records_nothing() {
    let world = World::start();
    for (number, row) in rows().iter().enumerate() {
        let id = world.order(number, row);
        let before = (world.recorded(), world.hub.get(&format!("/v1/entities/{id}")));
        let asked = event(&format!("asked-{number}"), &id, 50, row.asks.clone());
        is_refused(row, world.hub.set(&world.oms, &id, &format!("r-{number}"), &row.asks.to_string()));
        // A refused request is not one that was seen: the same key is refused for the same reason.
        is_refused(row, world.hub.set(&world.oms, &id, &format!("r-{number}"), &row.asks.to_string()));
        is_refused(row, world.post("application/cloudevents+json", &asked));
        assert_eq!((world.recorded(), world.hub.get(&format!("/v1/entities/{id}"))), before, "{}", row.name);

        // In a batch it is the one that is refused; what stands beside it is taken.
        let beside = event(&format!("beside-{number}"), &format!("product/{number}"), 50, json!({ "title": "Mug" }));
        let (status, answer) = world.post("application/cloudevents-batch+json", &json!([asked, beside]));
        let outcomes = ["0", "1"].map(|at| answer.pointer(&format!("/results/{at}/outcome")).cloned());
        assert_eq!((status, &answer["refused"]), (200, &json!(1)), "{}: {answer}", row.name);
        assert_eq!(outcomes, [Some(json!("refused")), Some(json!("applied"))], "{}", row.name);
        assert_eq!(answer["results"][0]["code"], "order-state", "{}", row.name);
        assert_eq!(world.recorded(), before.0 + 1, "{}: the product alone", row.name);
        assert_eq!(world.hub.get(&format!("/v1/entities/{id}")), before.1, "{}", row.name);
    }
}

#[test]
fn what_the_case_table_allows_an_api_client_is_taken() {
    let world = World::start();
    let row = |lifecycle, ships, asks| Row { name: "", lifecycle, ships, asks, hints: "" };
    for (number, row, field, expected) in [
        (1, row("confirmed", Some(3), json!({ "lifecycle": "cancelled" })), "remainder_cancelled", json!(true)),
        (2, row("cancelled", None, json!({ "lifecycle": "cancelled" })), "lifecycle", json!("cancelled")),
        (3, row("allocated", None, json!({ "lifecycle": "cancelled" })), "lifecycle", json!("cancelled")),
        (4, row("shipped", None, json!({ "note": "Ring twice" })), "note", json!("Ring twice")),
    ] {
        let id = world.order(number, &row);
        let (status, answer) = world.hub.set(&world.oms, &id, &format!("r-{number}"), &row.asks.to_string());
        assert_eq!(status, 200, "{number}: {answer}");
        assert_eq!(world.hub.get(&format!("/v1/entities/{id}"))["document"][field], expected, "{number}");
    }
}
