//! The decision: a command meets stock as it is now; what comes out are records, and an answer. Only
//! [`fold()`](super::fold()) changes stock, and its effect shows at once to the next command.
//!
//! One total order of commands, and the demand of a request summed over its items before any is granted: that is what
//! keeps a last unit from being sold twice, without a lock.

mod goods;
mod life;
mod plan;
mod reserve;
mod settings;

use compact_str::CompactString;
use smallvec::SmallVec;

use super::command::{Answer, Command, Count, Movement, StockRefusal, Unavailable};
use super::fold::fold;
use super::order::Goods;
use super::record::{LineFact, ReservationFact, ReservationState, StockBody, StockFact};
use super::state::{NONE, Reservation, Stock};
use crate::QuarantineReason;
use crate::record::{Body, Record};

/// What was decided of one command.
#[derive(Clone, Debug, PartialEq)]
pub struct StockDecision {
    /// The records to be written, in order. There can be some even where the command is refused: backorders that are
    /// served before it.
    pub records: Vec<Record>,
    /// The answer, valid once the records are durable.
    pub answer: Result<Answer, StockRefusal>,
}

/// A decision being made.
pub(super) struct Desk<'a> {
    pub(super) stock: &'a mut Stock,
    pub(super) now_us: i64,
    facts: SmallVec<[StockFact; 2]>,
}

type Answered = Result<Answer, StockRefusal>;

/// Decides one command at a time. A time before that of an earlier decision counts as that one.
pub fn decide(stock: &mut Stock, command: &Command, now_us: i64) -> StockDecision {
    let now_us = stock.tick(now_us);
    let mut desk = Desk { stock, now_us, facts: SmallVec::new() };
    let answer = command.check().and_then(|()| desk.decide(command));
    StockDecision { records: desk.records(), answer }
}

/// Why goods that move together can't, in one of them; nothing is decided of any. Where there is no reason, each of these
/// movements can be decided, and none of them is refused or doubted then.
pub fn foresee(stock: &mut Stock, commands: &[Command], now_us: i64) -> Option<Result<Answer, StockRefusal>> {
    let mut movements: Vec<&Movement> = Vec::new();
    for command in commands {
        movements.extend(if let Command::Move(movement) = command { Some(movement) } else { None });
    }
    let now_us = stock.tick(now_us);
    let desk = Desk { stock, now_us, facts: SmallVec::new() };
    let checked = commands.iter().try_for_each(Command::check);
    match checked.and_then(|()| desk.foresee(&movements)) {
        Ok(Answer::Applied) => None,
        reason => Some(reason),
    }
}

/// Goods that have left already have further names ([`Goods::also`]): under these they leave no more. Nothing else changes.
pub fn name_goods(stock: &mut Stock, goods: Goods, reservation: &str, now_us: i64) -> Vec<Record> {
    let now_us = stock.tick(now_us);
    let mut desk = Desk { stock, now_us, facts: SmallVec::new() };
    desk.name_goods(goods, reservation);
    desk.records()
}

/// What channels must be told now: where what they may sell is another than what they were told last. Once for many
/// commands, at the end of a batch. Of more than `skus_max` SKUs the others wait for the next time, see
/// [`Stock::is_touched`].
pub fn publish(stock: &mut Stock, skus_max: usize, now_us: i64) -> Vec<Record> {
    let now_us = stock.tick(now_us);
    let mut desk = Desk { stock, now_us, facts: SmallVec::new() };
    super::publish::publish(&mut desk, skus_max);
    desk.records()
}

impl Desk<'_> {
    fn decide(&mut self, command: &Command) -> Answered {
        // First what was due before it: then it makes no difference when expiries are written down.
        match command {
            Command::Commit { id }
            | Command::Release { id, .. }
            | Command::Extend { id, .. }
            | Command::Transfer { id, .. }
            | Command::Acknowledge { id, .. } => {
                if let Some(slot) = self.stock.slot(id) {
                    self.stock.last_slot = slot;
                    self.stock.skus_of(slot).into_iter().for_each(|sku| self.settle(sku));
                }
            }
            Command::Count(Count { sku, .. })
            | Command::Move(Movement { sku, .. })
            | Command::Unavailable(Unavailable { sku, .. })
            | Command::Safety { sku, .. }
            | Command::Sku { sku, .. } => self.settle_named(sku),
            Command::Policy(policy) if policy.sku.is_empty() => self.settle_all(),
            Command::Policy(policy) => self.settle_named(&policy.sku),
            // These look to it themselves, or have no part in it.
            Command::Reserve(_) | Command::Expire { .. } | Command::Supply { .. } => {}
        }
        match command {
            Command::Reserve(command) => self.reserve(command),
            Command::Commit { id } => self.commit(id),
            Command::Release { id, lines } => self.release(id, lines),
            Command::Extend { id, expires_at_us } => self.extend(id, *expires_at_us),
            Command::Transfer { id, line, location, quantity } => self.transfer(id, *line, location, *quantity),
            Command::Acknowledge { id, location, at_us } => self.acknowledge(id, location, *at_us),
            Command::Expire { limit } => self.expire(*limit),
            Command::Count(count) => self.count(count),
            Command::Move(movement) => self.move_goods(movement),
            Command::Unavailable(unavailable) => self.unavailable(unavailable),
            Command::Safety { sku, location, quantity } => self.safety(sku, location, *quantity),
            Command::Policy(policy) => self.policy(policy),
            Command::Sku { sku, scale, components } => self.sku(sku, *scale, components),
            Command::Supply { supply, sku, location, open, eta_us } => {
                self.supply(supply, sku, location, *open, *eta_us)
            }
        }
    }

    /// Records a fact, and folds it, so that it shows at once to what follows.
    pub(super) fn record(&mut self, event_type: &str, mut body: StockBody) {
        if let StockBody::Reservation(fact) = &mut body
            && !event_type.is_empty()
        {
            self.complete(fact);
        }
        let fact = StockFact { event_type: event_type.to_owned(), body: Some(body), ..StockFact::default() };
        fold(self.stock, self.now_us, &fact);
        self.facts.push(fact);
    }

    /// An event tells of a reservation whole, also of the lines that stay as they are, and in their order: a part of a
    /// line may have gone to an earlier one.
    fn complete(&self, fact: &mut ReservationFact) {
        fact.lines.sort_by_key(|line| line.line);
        let slot = if fact.fresh { None } else { self.stock.slot(&fact.id) };
        let Some(reservation) = slot.and_then(|slot| self.stock.reservation(slot)) else { return };
        let told: Vec<u32> = fact.lines.iter().map(|line| line.line).collect();
        if told.iter().filter(|line| (**line as usize) < reservation.lines.len()).count() == reservation.lines.len() {
            return;
        }
        let others = (0..reservation.lines.len()).filter(|at| !told.contains(&(*at as u32)));
        fact.lines.extend(others.map(|at| self.stock.line_fact(reservation, at)));
        fact.lines.sort_by_key(|line| line.line);
    }

    fn records(self) -> Vec<Record> {
        let (of, now_us) = (self.facts.len() as u32, self.now_us);
        let one = |(index, fact)| Record::new(now_us, Body::Stock(Box::new(StockFact { index, of, ..fact })));
        (0..).zip(self.facts).map(one).collect()
    }

    /// What a reservation's fact begins with: all but its lines, as it is now.
    fn fact_of(&self, reservation: &Reservation) -> ReservationFact {
        ReservationFact {
            id: reservation.id.to_string(),
            owner: reservation.owner.to_string(),
            channel: self.stock.channel_names.name(reservation.channel).to_owned(),
            state: reservation.state as i32,
            expires_at_us: reservation.expires_at_us,
            promised_at_us: reservation.promised_at_us,
            priority: reservation.priority,
            request_hash: reservation.request_hash,
            committed: reservation.committed,
            lines: Vec::with_capacity(reservation.lines.len()),
            fresh: false,
            occurred_at_us: self.now_us,
        }
    }

    fn find(&self, id: &CompactString) -> Result<(u32, &Reservation), StockRefusal> {
        let slot = self.stock.slot(id);
        let found = slot.and_then(|slot| Some((slot, self.stock.reservation(slot)?)));
        found.ok_or_else(|| StockRefusal::Unknown(id.clone()))
    }

    /// The answer that speaks of a reservation.
    fn told(&self, id: &str, repeated: bool) -> Answered {
        let reservation = self.stock.slot(id).and_then(|slot| self.stock.reservation(slot));
        let state = reservation.map_or(ReservationState::Unspecified, |r| r.state_at(self.now_us));
        Ok(Answer::Reservation { state, lines: Vec::new(), shortfalls: Vec::new(), repeated })
    }

    /// Takes what has expired out of the sums of a SKU, and serves its backorders: they come before new sales.
    pub(super) fn settle(&mut self, sku: u32) {
        self.stock.advance(sku);
        self.promote(sku);
    }

    pub(super) fn settle_named(&mut self, sku: &str) {
        if let Some(sku) = self.stock.sku_names.find(sku) {
            self.settle(sku);
        }
    }

    pub(super) fn settle_all(&mut self) {
        (0..self.stock.skus.len() as u32).for_each(|sku| self.settle(sku));
    }

    /// Why a time of a source can't be believed.
    fn ahead(&self, field: &'static str, at_us: i64) -> Option<QuarantineReason> {
        let ahead_us = at_us.saturating_sub(self.now_us);
        (ahead_us > self.stock.limits.ahead_max_us).then(|| QuarantineReason {
            code: "clock-skew".into(),
            detail: format!(
                "{field} is {} s ahead of the hub's clock, more than the {} s allowed",
                ahead_us / 1_000_000,
                self.stock.limits.ahead_max_us / 1_000_000
            ),
            at: format!("/{field}"),
        })
    }
}

fn conflict(reservation: &Reservation, now_us: i64, wanted: &'static str) -> Answered {
    Err(StockRefusal::Conflict { id: reservation.id.clone(), state: reservation.state_at(now_us), wanted })
}

impl Stock {
    /// A line as a fact tells it.
    pub(super) fn line_fact(&self, reservation: &Reservation, number: usize) -> LineFact {
        let Some(line) = reservation.lines.get(number) else { return LineFact::default() };
        let location = if line.location == NONE { "" } else { self.locations.name(line.location) };
        LineFact {
            line: number as u32,
            item: line.item,
            sku: self.sku_names.name(line.sku).to_owned(),
            location: location.to_owned(),
            quantity: line.quantity,
            open: line.open,
            consumed: line.consumed,
            released: line.released,
            expired: line.expired,
            acknowledged_at_us: line.acknowledged_at_us,
        }
    }
}
