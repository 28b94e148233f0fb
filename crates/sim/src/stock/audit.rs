//! Holds the journal's records of stock, and the hub's answers about it, against the model.

use std::collections::BTreeMap;

use lockstep_core::stock::record::{LineFact, ReservationFact, ReservationState as State, StockBody, StockFact};
use lockstep_core::stock::{Availability, Command, ReservationView};

use super::model::{Line, Model, Said};
use crate::ledger::{Ledger, Unrecorded};
use crate::op::Content;
use crate::orders::audit::Orders;
use crate::violation::{Violation, violated};

/// What is told when something waited for supply and is served.
pub(crate) const PROMOTED: &str = "reservation.promoted";

/// What follows of stock from the journal so far.
#[derive(Clone, Debug, Default)]
pub struct StockAudit {
    pub(crate) model: Model,
    /// Orders that reserve.
    pub orders: Orders,
    /// The first record of each message that is in the journal.
    pub recorded: BTreeMap<usize, u64>,
    /// How many holds were written down as expired.
    pub expired: u64,
    /// How many lines were promised of what is on order.
    pub backordered: u64,
    /// How often one of them was served.
    pub promoted: u64,
    /// Of what was answered without a record, which can be so.
    met: Vec<bool>,
    /// Since which record stock is as it is.
    since: u64,
    /// The facts of the decision that is being read.
    open: Vec<StockFact>,
    /// How many facts of that decision were taken as an order's.
    skipped: usize,
    told: BTreeMap<(String, String), i64>,
}

impl StockAudit {
    /// Takes a record.
    ///
    /// # Errors
    /// Where it can't follow on what is known.
    pub fn record(&mut self, position: u64, now_us: i64, fact: &StockFact, ledger: &Ledger) -> Result<(), Violation> {
        if self.orders.is_open() {
            self.unrecorded(position, ledger);
            if self.is_of_orders(now_us, fact) {
                self.since = position;
                return Ok(());
            }
            // Who is served when channels are told may have been taken for a part of it.
            self.skipped = fact.index as usize;
            self.end_orders().map_err(|detail| Violation { code: "order", detail })?;
        }
        let known = self.skipped + self.open.len();
        if fact.index as usize != known {
            return violated("torn", format!("record {position} is fact {} after {known}", fact.index));
        }
        self.open.push(fact.clone());
        if fact.index + 1 < fact.of {
            return Ok(());
        }
        let facts = std::mem::take(&mut self.open);
        self.skipped = 0;
        let first = position + 1 - facts.len() as u64;
        self.unrecorded(first, ledger);
        self.since = position;
        let wrong = |detail: String| Violation { code: "stock", detail: format!("record {position}: {detail}") };
        self.decision(first, now_us, &facts, ledger).map_err(wrong)
    }

    fn decision(&mut self, first: u64, now_us: i64, facts: &[StockFact], ledger: &Ledger) -> Result<(), String> {
        let origin = facts.first().and_then(|fact| fact.origin.as_deref());
        let mut pending = None;
        if let Some(origin) = origin.filter(|origin| !origin.delivery.starts_with("stock-expiry|")) {
            let is_it = |e: &crate::ledger::Entry| {
                let message = &e.message;
                (message.way().source, &message.delivery, message.payload)
                    == (origin.source.as_str(), &origin.delivery, origin.payload_hash)
            };
            let number = ledger.entries.iter().position(is_it);
            let number = number.ok_or_else(|| format!("nobody has said {} of {}", origin.delivery, origin.source))?;
            let message = &ledger.entries[number].message;
            let Content::Stock(command) = &message.content else { return Err(format!("{message} is no command")) };
            if let Some(before) = self.recorded.insert(number, first) {
                return Err(format!("{message} had its effect in record {before} already"));
            }
            // Who is served before it is recorded even where it has no effect itself.
            let is_served = facts.iter().all(|fact| fact.event_type == PROMOTED);
            match self.model.predict(command, now_us) {
                Said::Applied | Said::AppliedOrShort => pending = Some((command, message)),
                Said::Ignored => {}
                Said::Repeated | Said::Doubtful if is_served => {}
                other => return Err(format!("{message} was recorded, and should be {other:?}")),
            }
        }
        for (at, fact) in facts.iter().enumerate() {
            let Some(body) = &fact.body else { continue };
            if let StockBody::Reservation(of) = body
                && fact.event_type == PROMOTED
            {
                self.model.promoted(&of.id, now_us, |model| reservation(model, of))?;
                self.promoted += 1;
                continue;
            }
            if let Some((command, message)) = pending.take() {
                let made = made(command, facts);
                self.backordered += made.iter().filter(|line| line.place.is_empty()).count() as u64;
                self.model.apply(command, now_us, &made).map_err(|why| format!("{message}: {why}"))?;
            }
            if let StockBody::Reservation(of) = body {
                if fact.event_type == "reservation.expired" {
                    self.model.expire(&of.id, now_us)?;
                    self.expired += 1;
                }
                // A decision may say several things of one reservation: the last counts, and who is served is looked
                // at by itself.
                let again =
                    |later: &StockFact| matches!(&later.body, Some(StockBody::Reservation(later)) if later.id == of.id);
                if !facts[at + 1..].iter().any(again) {
                    reservation(&self.model, of)?;
                }
            } else {
                self.fact(now_us, body)?;
            }
        }
        Ok(())
    }

    pub(crate) fn fact(&mut self, now_us: i64, body: &StockBody) -> Result<(), String> {
        let same = |what: &str, sku: &str, place: &str, is: i64, right: i64| {
            if is == right { Ok(()) } else { Err(format!("{sku}@{place}: {what} {is}, should be {right}")) }
        };
        let known = |sku: &str, place: &str| self.model.places.get(&(sku.to_owned(), place.to_owned())).cloned();
        match body {
            StockBody::Counted(of) => {
                let right = known(&of.sku, &of.location).unwrap_or_default().on_hand();
                same("on hand", &of.sku, &of.location, of.on_hand, right)
            }
            StockBody::Moved(of) => {
                let right = known(&of.sku, &of.location).unwrap_or_default().on_hand();
                same("on hand", &of.sku, &of.location, of.on_hand, right)
            }
            StockBody::Safety(of) => {
                let right = known(&of.sku, &of.location).unwrap_or_default().safety;
                same("safety stock", &of.sku, &of.location, of.quantity, right)
            }
            StockBody::Shortage(of) => {
                let right = self.model.shortage(&of.sku, &of.location, now_us);
                same("short", &of.sku, &of.location, of.shortage, right)
            }
            StockBody::Availability(of) => {
                let right = self.model.settled(now_us).atp(&of.sku, &of.channel, now_us);
                same("available", &of.sku, &of.channel, of.atp, right)?;
                let before = self.told.insert((of.sku.clone(), of.channel.clone()), of.atp);
                same("told before", &of.sku, &of.channel, of.before.unwrap_or(0), before.unwrap_or(0))
            }
            StockBody::Supply(of) => {
                let right = self.model.on_order(&of.sku, &of.supply);
                same("on order", &of.sku, &of.supply, of.open, right)
            }
            StockBody::Policy(_) | StockBody::Sku(_) => Ok(()),
            other => Err(format!("nobody asked for {other:?}")),
        }
    }

    /// Before record `next`: which of what was answered without a record can have been decided since the last one.
    fn unrecorded(&mut self, next: u64, ledger: &Ledger) {
        self.met.resize(ledger.unrecorded.len(), false);
        for (met, of) in self.met.iter_mut().zip(&ledger.unrecorded) {
            // It was decided after all before `from`, and before anything from `to` on.
            if *met || of.from > next || of.to <= self.since {
                continue;
            }
            let Content::Stock(command) = &ledger.entries[of.message].message.content else { continue };
            let ends = self.model.reservations.values().map(|known| known.expires_at_us);
            let times = ends.chain(self.model.window_ends(command));
            let times = times.filter(|end_us| (of.asked_us..=of.told_us).contains(end_us));
            let can_be = |at_us: i64| match (self.model.predict(command, at_us), of.said) {
                (Said::AppliedOrShort, said) => said == Said::Refused("stock-short"),
                (Said::ShortOrUnknown, said) => {
                    matches!(said, Said::Refused("stock-short" | "stock-invalid"))
                }
                (right, said) => right == said,
            };
            *met = times.chain([of.asked_us, of.told_us]).any(can_be);
        }
    }

    /// The reservations that there are.
    pub fn ids(&self) -> Vec<String> {
        self.model.ids()
    }

    /// At the end of the journal: everything that was answered is there, or could be answered so.
    ///
    /// # Errors
    /// The first that could not.
    pub fn finish(&mut self, ledger: &Ledger) -> Result<(), Violation> {
        self.end_orders().map_err(|detail| Violation { code: "order", detail })?;
        if !self.open.is_empty() {
            return violated("torn", format!("of a decision of stock there are only {} facts", self.open.len()));
        }
        self.unrecorded(u64::MAX, ledger);
        for (number, position) in &ledger.stock_recorded {
            let found = self.recorded.get(number);
            if found != Some(position) {
                let message = &ledger.entries[*number].message;
                return violated(
                    "lost",
                    format!("{message} was acknowledged with record {position}, it has {found:?}"),
                );
            }
        }
        if let Some((of, _)) = ledger.unrecorded.iter().zip(&self.met).find(|(_, met)| !**met) {
            let Unrecorded { message, said, from, to, .. } = of;
            let message = &ledger.entries[*message].message;
            return violated("stock", format!("{message} was {said:?} between record {from} and {to}, which can't be"));
        }
        Ok(())
    }

    /// Holds what the hub answers against the model.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn compare(&self, now_us: i64, all: &[Availability]) -> Result<(), Violation> {
        let settled = self.model.settled(now_us);
        for of in all {
            let places = self.model.places.keys().filter(|(sku, _)| *sku == of.sku).count();
            if places != of.locations.len() {
                return violated("stock", format!("{} is at {places} places, and the hub says {of:?}", of.sku));
            }
            for at in &of.locations {
                let place = self.model.places.get(&(of.sku.to_string(), at.location.to_string()));
                let place = place.cloned().unwrap_or_default();
                let [held, committed] = self.model.promised(&of.sku, &at.location, now_us);
                let usable = settled.usable(&of.sku, &at.location, &of.channel, now_us);
                let right = (place.on_hand(), place.safety, held, committed, usable);
                let is = (at.on_hand, at.safety, at.held, at.committed, at.usable);
                if is != right || at.atf != place.on_hand() - place.safety - held - committed {
                    let what = format!("{}@{} for {}", of.sku, at.location, of.channel);
                    return violated("stock", format!("{what} is {is:?} and {}, should be {right:?}", at.atf));
                }
            }
            let right = settled.atp(&of.sku, &of.channel, now_us);
            if of.atp != right {
                let what = format!("{} for {}", of.sku, of.channel);
                return violated("stock", format!("{what}: {} available, should be {right}", of.atp));
            }
        }
        Ok(())
    }

    /// The same of a reservation.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn compare_reservation(&self, now_us: i64, id: &str, found: Option<&ReservationView>) -> Result<(), Violation> {
        let known = self.model.reservations.get(id);
        let over = |lines: Vec<Line>, state: State| {
            // Whether the end of a hold is written down makes no difference.
            let end = |line: Line| Line { expired: line.expired + line.open, open: 0, ..line };
            if state == State::Expired { lines.into_iter().map(end).collect() } else { lines }
        };
        let right = known.map(|known| {
            let state = known.state_at(now_us);
            (state, over(known.lines.clone(), state))
        });
        let found = found.map(|view| (view.state, over(view.lines.iter().map(line).collect(), view.state)));
        if right == found { Ok(()) } else { violated("stock", format!("{id} is {found:?}, should be {right:?}")) }
    }
}

/// What is told of a reservation is all of it, as it is then.
pub(crate) fn reservation(model: &Model, of: &ReservationFact) -> Result<(), String> {
    let Some(known) = model.reservations.get(&of.id) else { return Err(format!("{} is unknown", of.id)) };
    let lines: Vec<Line> = of.lines.iter().map(line).collect();
    if (of.state(), of.expires_at_us) != (known.state, known.expires_at_us) || lines != known.lines {
        return Err(format!("{of:?}, should be {known:?}"));
    }
    Ok(())
}

pub(crate) fn line(of: &LineFact) -> Line {
    Line {
        item: of.item,
        sku: of.sku.clone(),
        place: of.location.clone(),
        quantity: of.quantity,
        open: of.open,
        consumed: of.consumed,
        released: of.released,
        expired: of.expired,
    }
}

/// The lines that the hub made for a command.
fn made(command: &Command, facts: &[StockFact]) -> Vec<Line> {
    let id = match command {
        Command::Reserve(wanted) => &wanted.id,
        Command::Commit { id } => id,
        _ => return Vec::new(),
    };
    let of = |fact: &StockFact| match &fact.body {
        Some(StockBody::Reservation(of)) if of.id == *id && fact.event_type != PROMOTED => {
            Some(of.lines.iter().map(line).collect())
        }
        _ => None,
    };
    facts.iter().find_map(of).unwrap_or_default()
}
