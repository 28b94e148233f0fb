//! Orders and stock in one hub's decisions.

use lockstep_core::decide::retry;
use lockstep_core::rules::{OrderPolicy, StockOrders};
use lockstep_core::stock::record::{CountBasis, ReservationState as State};
use lockstep_core::stock::{Command, Contribution, Item, Question, Reserve};
use lockstep_core::{Change, Facts, Field, Input, InputBody, Outcome, Record, Refusal, Rules, decide, entity_id, path};
use serde_json::{Value, json};

use super::{MINUTE, Shop, count};

/// An order's key and state, and so many units of each SKU.
pub type Ordered<'a> = (&'a str, &'a str, &'a [(&'a str, i64)]);

/// A hub's decisions, with orders that reserve.
pub struct World {
    pub facts: Facts,
    number: u64,
    pub now: i64,
    pub records: Vec<Record>,
}

impl World {
    pub fn new() -> Self {
        Self::with(OrderPolicy::default())
    }

    pub fn with(policy: OrderPolicy) -> Self {
        let mut rules = Rules::new();
        rules.stock_orders = StockOrders { all: Some(policy), ..StockOrders::default() };
        Self { facts: Facts::new(rules), number: 0, now: Shop::minute(0), records: Vec::new() }
    }

    fn input(&mut self, system: &str, body: InputBody) -> Result<Outcome, Refusal> {
        self.number += 1;
        self.decide(Input {
            source: system.into(),
            system: system.into(),
            delivery: format!("d{}", self.number),
            payload_hash: self.number,
            reject_reuse: false,
            request_key: None,
            received_at_us: self.now,
            trace: None,
            raw: None,
            body,
            releases: None,
        })
    }

    fn decide(&mut self, input: Input) -> Result<Outcome, Refusal> {
        let first = self.facts.next;
        let decision = decide(&mut self.facts, input, self.now)?;
        let aside = std::mem::take(&mut self.facts.aside);
        let count = decision.records.len() + aside.len();
        assert_eq!(first + count as u64, self.facts.next, "every record has its position");
        self.records.extend(aside.into_iter().chain(decision.records));
        let over = |owner: &str| {
            let order = self.facts.entities.get(entity_id("order", owner).as_str());
            let state = order.and_then(|order| order.value("lifecycle")).map(|json| json.to_bytes());
            state.is_some_and(|state| ["\"cancelled\"", "\"closed\""].contains(&str::from_utf8(&state).unwrap()))
        };
        assert_eq!(self.facts.stock.check(self.now, over), Vec::new());
        Ok(decision.outcome)
    }

    pub fn say(&mut self, system: &str, id: &str, minute: i64, fields: Value) {
        let change = self.change(id, minute, fields);
        self.input(system, InputBody::Changes(vec![change])).unwrap();
    }

    fn change(&self, id: &str, minute: i64, fields: Value) -> Change {
        let (kind, key) = id.split_once('/').unwrap();
        let Value::Object(members) = fields else { panic!("{fields}") };
        let fields = members.into_iter().map(|(name, value)| Field::new(name, value.to_string())).collect();
        let fields = path::split(fields, self.facts.rules.parts(kind)).unwrap();
        Change::new(kind, key, 0, Shop::minute(minute), fields).unwrap()
    }

    pub fn delete(&mut self, minute: i64) {
        let change = Change::deletion("order", "web:1", 0, Shop::minute(minute)).unwrap();
        self.input("shop", InputBody::Changes(vec![change])).unwrap();
    }

    pub fn command(&mut self, command: Command) -> Outcome {
        self.input("wms", InputBody::Stock(vec![command])).unwrap()
    }

    /// The hub's own word that stock came for an order. Whether anything is recorded of it.
    pub fn retry(&mut self, order: &str, sku: &str) -> bool {
        let entity = self.facts.entities[format!("order/{order}").as_str()].clone();
        let outcome = self.decide(retry(sku, &entity, self.now)).unwrap();
        match outcome {
            Outcome::Applied { changed, .. } => assert!(changed),
            ref other => assert_eq!(*other, Outcome::Superseded { position: 0, count: 0 }),
        }
        matches!(outcome, Outcome::Applied { .. })
    }

    /// The SKUs of which stock came since this was asked last.
    pub fn arrived(&mut self) -> Vec<String> {
        self.facts.stock.arrivals(self.now).into_iter().map(|arrival| arrival.sku).collect()
    }

    /// Any order of the channel `web`, with so many units of each SKU.
    pub fn order_of(&mut self, key: &str, minute: i64, state: &str, units: &[(&str, i64)]) {
        self.orders_of(minute, &[(key, state, units)]);
    }

    /// Several of them in one delivery.
    pub fn orders_of(&mut self, minute: i64, orders: &[Ordered<'_>]) {
        let line = |(sku, units): &(&str, i64)| json!({"id": sku, "sku": sku, "ordered": units});
        let mut changes = Vec::new();
        for (key, state, units) in orders {
            let lines: Vec<Value> = units.iter().map(line).collect();
            let fields = json!({"channel": "web", "lifecycle": state, "lines": lines});
            changes.push(self.change(&format!("order/{key}"), minute, fields));
        }
        self.input("shop", InputBody::Changes(changes)).unwrap();
    }

    /// Whether an order is held because stock is short.
    pub fn is_held(&self, order: &str) -> bool {
        let document = self.facts.entities[format!("order/{order}").as_str()].document_json();
        let document: Value = serde_json::from_slice(&document).unwrap();
        document["holds"].as_array().is_some_and(|holds| holds.contains(&json!("stock")))
    }

    /// A command that may be refused.
    pub fn try_command(&mut self, command: Command) {
        let refused = self.input("wms", InputBody::Stock(vec![command])).err();
        assert!(matches!(refused, None | Some(Refusal::Stock(_))), "{refused:?}");
    }

    pub fn is_known(&self) -> bool {
        self.facts.entities.contains_key("order/web:1")
    }

    pub fn is_deleted(&self) -> bool {
        self.facts.entities["order/web:1"].is_deleted()
    }

    pub fn count(&mut self, sku: &str, location: &str, quantity: i64) {
        self.command(count(sku, location, CountBasis::OnHand, quantity, -60));
    }

    pub fn hold(&mut self, id: &str, quantity: i64) {
        self.command(Command::Reserve(Reserve {
            id: id.into(),
            owner: id.into(),
            channel: "web".into(),
            expires_at_us: self.now + 15 * MINUTE,
            items: vec![Item { sku: "A".into(), quantity, location: None }],
            ..Reserve::default()
        }));
    }

    pub fn order(&mut self, minute: i64, state: &str, units: i64) {
        let lines = json!([{"id": "l", "sku": "A", "ordered": units}]);
        self.say("shop", "order/web:1", minute, json!({"lifecycle": state, "lines": lines}));
    }

    pub fn ship(&mut self, key: &str, units: i64) {
        let lines = json!([{"id": "l", "quantity": units}]);
        self.say("wms", &format!("shipment/{key}"), -1, json!({"order": "web:1", "location": "b", "lines": lines}));
    }

    pub fn take_back(&mut self, key: &str, units: i64, disposition: &str) {
        let lines = json!([{"id": "l", "quantity": units}]);
        let fields = json!({"order": "web:1", "location": "b", "lines": lines, "disposition": disposition});
        self.say("wms", &format!("return/{key}"), -1, fields);
    }

    /// On hand, promised, and what may still be promised.
    pub fn sums(&mut self, sku: &str) -> (i64, i64, i64) {
        let question = Question { sku, channel: "web", until_us: self.now, holders_max: 0 };
        let all = self.facts.stock.availability(&question, self.now).locations;
        let sum = |of: fn(&Contribution) -> i64| all.iter().map(of).sum::<i64>();
        (sum(|at| at.on_hand), sum(|at| at.held + at.committed), sum(|at| at.atf))
    }

    pub fn state(&self, id: &str) -> Option<State> {
        self.facts.stock.reservation_view(id, self.now).map(|view| view.state)
    }

    pub fn at(&self, pointer: &str) -> Value {
        let document = self.facts.entities["order/web:1"].document_json();
        serde_json::from_slice::<Value>(&document).unwrap().pointer(pointer).cloned().unwrap_or(Value::Null)
    }
}
