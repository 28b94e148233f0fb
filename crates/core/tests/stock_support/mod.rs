//! Short words for stock, so that a test reads like the business.

#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod orders;

use lockstep_core::Record;
use lockstep_core::record::Body;
use lockstep_core::stock::record::{CountBasis, LineFact, MovementKind, ReservationState, StockBody, StockFact};
use lockstep_core::stock::{
    Answer, Availability, Command, Count, EVENT_TYPES, Item, Limits, Movement, PolicyOf, Question, Reserve, Stock,
    StockRefusal, decide, fold, publish,
};

pub const MINUTE: i64 = 60_000_000;

/// A stock with a clock, and all that it recorded.
pub struct Shop {
    pub stock: Stock,
    pub now: i64,
    pub records: Vec<Record>,
    movement: u32,
}

impl Default for Shop {
    fn default() -> Self {
        Self::with(Limits::default())
    }
}

impl Shop {
    pub fn with(limits: Limits) -> Self {
        Self { stock: Stock::new(limits), now: 1_000 * MINUTE, records: Vec::new(), movement: 0 }
    }

    pub fn at(&mut self, minute: i64) -> &mut Self {
        self.now = (1_000 + minute) * MINUTE;
        self
    }

    /// Decides, and checks that nothing is broken.
    pub fn run(&mut self, command: &Command) -> Result<Answer, StockRefusal> {
        let decision = decide(&mut self.stock, command, self.now);
        for record in &decision.records {
            let published = &stock_fact(record).event_type;
            assert!(
                published.is_empty() || EVENT_TYPES.contains(&published.as_str()),
                "{published} is not in the list"
            );
            if let Some(StockBody::Reservation(of)) = &stock_fact(record).body {
                assert!(of.lines.is_sorted_by_key(|line| line.line), "{of:?}");
            }
        }
        self.records.extend(decision.records);
        assert_eq!(self.stock.check(0, |_| false), Vec::new(), "after {command:?}");
        decision.answer
    }

    pub fn publish(&mut self) -> Vec<(String, String, i64)> {
        let records = publish(&mut self.stock, usize::MAX, self.now);
        let told = records.iter().filter_map(|record| match stock_fact(record).body.clone() {
            Some(StockBody::Availability(of)) => Some((of.sku, of.channel, of.atp)),
            _ => None,
        });
        let told = told.collect();
        self.records.extend(records);
        told
    }

    /// Minutes after the beginning.
    pub fn minute(minute: i64) -> i64 {
        (1_000 + minute) * MINUTE
    }

    pub fn count(&mut self, sku: &str, location: &str, quantity: i64, minute: i64) -> Answer {
        self.run(&count(sku, location, CountBasis::OnHand, quantity, minute)).unwrap()
    }

    pub fn count_available(&mut self, sku: &str, location: &str, quantity: i64, minute: i64) -> Answer {
        self.run(&count(sku, location, CountBasis::Available, quantity, minute)).unwrap()
    }

    pub fn moved(&mut self, kind: MovementKind, sku: &str, location: &str, quantity: i64, minute: i64) -> Answer {
        self.movement += 1;
        let id = format!("m{}", self.movement);
        self.run(&Command::Move(movement(&id, kind, sku, location, quantity, minute))).unwrap()
    }

    /// Ships goods of a reservation.
    pub fn ship(&mut self, of: &str, sku: &str, location: &str, quantity: i64, minute: i64) -> Answer {
        self.movement += 1;
        let id = format!("m{}", self.movement);
        let movement = movement(&id, MovementKind::Ship, sku, location, quantity, minute);
        self.run(&Command::Move(Movement { reservation: Some(of.into()), ..movement })).unwrap()
    }

    /// Reserves one item for ten minutes.
    pub fn reserve(&mut self, id: &str, sku: &str, quantity: i64) -> Result<Answer, StockRefusal> {
        let command = self.request(id, &[(sku, quantity)]);
        self.run(&Command::Reserve(command))
    }

    pub fn request(&self, id: &str, items: &[(&str, i64)]) -> Reserve {
        let item = |(sku, quantity): &(&str, i64)| Item { sku: (*sku).into(), quantity: *quantity, location: None };
        Reserve {
            id: id.into(),
            owner: id.into(),
            channel: "web".into(),
            expires_at_us: self.now + 10 * MINUTE,
            items: items.iter().map(item).collect(),
            ..Reserve::default()
        }
    }

    pub fn commit(&mut self, id: &str) -> Result<Answer, StockRefusal> {
        self.run(&Command::Commit { id: id.into() })
    }

    pub fn release(&mut self, id: &str) -> Result<Answer, StockRefusal> {
        self.run(&Command::Release { id: id.into(), lines: Vec::new() })
    }

    pub fn policy(&mut self, policy: PolicyOf) {
        self.run(&Command::Policy(policy)).unwrap();
    }

    pub fn ask(&mut self, sku: &str, channel: &str) -> Availability {
        let question = Question { sku, channel, until_us: i64::MAX, holders_max: 10 };
        self.stock.availability(&question, self.now)
    }

    pub fn atp(&mut self, sku: &str) -> i64 {
        self.ask(sku, "web").atp
    }

    /// On hand, reserved (held and committed) and available to fulfil, of all locations together.
    pub fn sums(&mut self, sku: &str) -> (i64, i64, i64) {
        let of = self.ask(sku, "web").locations;
        let sum = |part: fn(&lockstep_core::stock::Contribution) -> i64| of.iter().map(part).sum();
        (sum(|l| l.on_hand), sum(|l| l.held + l.committed), sum(|l| l.atf))
    }

    pub fn shortage(&mut self, sku: &str) -> i64 {
        self.ask(sku, "web").locations.iter().map(|l| l.shortage).sum()
    }

    /// What the last `n` records tell.
    pub fn told(&self, n: usize) -> Vec<&str> {
        let last = &self.records[self.records.len() - n..];
        last.iter().map(|record| stock_fact(record).event_type.as_str()).collect()
    }

    /// The same records, read again from the bytes that a journal would hold, folded from nothing.
    pub fn replayed(&self, limits: Limits) -> Stock {
        let mut stock = Stock::new(limits);
        for record in &self.records {
            let bytes = prost::Message::encode_to_vec(record);
            let record = Record::read(bytes.into()).unwrap();
            fold(&mut stock, record.recorded_at_us, stock_fact(&record));
        }
        stock
    }
}

pub fn stock_fact(record: &Record) -> &StockFact {
    match &record.body {
        Some(Body::Stock(fact)) => fact,
        other => panic!("not of stock: {other:?}"),
    }
}

pub fn count(sku: &str, location: &str, basis: CountBasis, quantity: i64, minute: i64) -> Command {
    let (source, as_of_us) = ("wms".into(), Shop::minute(minute));
    Command::Count(Count {
        source,
        sku: sku.into(),
        location: location.into(),
        basis,
        quantity,
        as_of_us,
        ..Count::default()
    })
}

pub fn movement(id: &str, kind: MovementKind, sku: &str, location: &str, quantity: i64, minute: i64) -> Movement {
    Movement {
        source: "wms".into(),
        id: id.into(),
        sku: sku.into(),
        location: location.into(),
        kind,
        quantity,
        occurred_at_us: Shop::minute(minute),
        reservation: None,
        ..Movement::default()
    }
}

pub fn state_of(answer: &Result<Answer, StockRefusal>) -> (ReservationState, bool) {
    match answer {
        Ok(Answer::Reservation { state, repeated, .. }) => (*state, *repeated),
        other => panic!("no reservation: {other:?}"),
    }
}

pub fn lines_of(answer: Result<Answer, StockRefusal>) -> Vec<(String, String, i64)> {
    let told = |line: LineFact| (line.sku, line.location, line.open);
    match answer {
        Ok(Answer::Reservation { lines, .. }) => lines.into_iter().map(told).collect(),
        other => panic!("no reservation: {other:?}"),
    }
}

/// Item, requested, available: of each item that can't be had.
pub fn short_of(answer: Result<Answer, StockRefusal>) -> Vec<(u32, i64, i64)> {
    match answer {
        Err(StockRefusal::Short(short)) => short.into_iter().map(|s| (s.item, s.requested, s.available)).collect(),
        other => panic!("not short: {other:?}"),
    }
}
