//! Questions about stock: asked of the loop, so that the answer is as current as a reservation would find it.

use std::sync::Arc;

use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::{StockBody, StockFact};
use lockstep_core::stock::{Availability, Question, RESERVATION_KIND, ReservationView, StockRefusal, still_stands};
use lockstep_core::{Event, Input, Position};
use lockstep_journal::Reader;

use crate::failure::Unavailable;
use crate::handle::{Answer, HubHandle};
use crate::looper::unreadable;
use crate::reading::{ReadError, blocking, decode};
use crate::view::View;

/// How much of the journal one page of a ledger looks at, and one step of it.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
const STEP_BYTES: usize = 1024 * 1024;

/// What happened to a SKU at a location, a part of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The records, oldest first.
    pub entries: Vec<LedgerEntry>,
    /// Everything up to here has been looked at; the next part is after it.
    pub next_after: Position,
    /// Whether this is all there is now.
    pub at_end: bool,
}

/// A record of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerEntry {
    /// Its position.
    pub position: Position,
    /// When the hub decided it, microseconds since 1970 UTC.
    pub recorded_at_us: i64,
    /// What happened.
    pub fact: Box<StockFact>,
}

impl View<'_> {
    fn availability(
        &mut self,
        skus: &[String],
        channel: &str,
        until_us: Option<i64>,
        holders: usize,
    ) -> Vec<Availability> {
        let looper = self.looper();
        let now_us = looper.clock.time.now_us();
        let stock = &mut looper.facts.stock;
        let until_us = until_us.unwrap_or(now_us);
        let one = |sku: &String| {
            let question = Question { sku, channel, until_us, holders_max: holders };
            stock.availability(&question, now_us)
        };
        skus.iter().map(one).collect()
    }

    /// A reservation that was decided about just now, with what may be sold of its SKUs where that is asked for; nothing
    /// where it is not in memory.
    fn after(&mut self, id: &str, with_facts: bool) -> Option<After> {
        let looper = self.looper();
        let reservation = looper.facts.stock.reservation_view(id, looper.clock.time.now_us())?;
        let mut skus: Vec<String> = Vec::new();
        if with_facts {
            skus.extend(reservation.lines.iter().map(|line| line.sku.clone()));
            skus.sort_unstable();
            skus.dedup();
        }
        let facts = self.availability(&skus, &reservation.channel, None, 0);
        Some(After { reservation, facts })
    }

    fn reservation(&mut self, id: &str) -> Result<Option<ReservationView>, Unavailable> {
        let looper = self.looper();
        looper.load_reservation(id).map_err(unreadable)?;
        Ok(looper.facts.stock.reservation_view(id, looper.clock.time.now_us()))
    }
}

/// A reservation after what was asked for in the same breath.
#[derive(Clone, Debug)]
pub struct After {
    /// As it stands.
    pub reservation: ReservationView,
    /// What its channel may sell of its SKUs, each once, where that was asked for.
    pub facts: Vec<Availability>,
}

impl HubHandle {
    /// Submits inputs about a reservation, and asks right behind them how it stands, so that the question and the
    /// decision wait for the same sync. Nothing is known of it where it could not be said so soon: then it is asked for
    /// as any other.
    pub async fn submit_about(
        &self,
        inputs: Vec<Input>,
        id: &str,
        with_facts: bool,
    ) -> Result<(Vec<Answer>, Option<After>), Unavailable> {
        let submitted = self.submit_now(inputs)?;
        let id = id.to_owned();
        let after = self.ask(move |view| Ok(view.after(&id, with_facts))).await;
        // What the question was drawn from may have failed after the decision was durable.
        Ok((submitted.answers().await?, after.ok().flatten()))
    }

    /// What a channel may sell of SKUs now, with every term of the equation and at most `holders` of those behind each
    /// location's sums. What is on order counts until `until_us`.
    pub async fn availability(
        &self,
        skus: Vec<String>,
        channel: &str,
        until_us: Option<i64>,
        holders: usize,
    ) -> Result<Vec<Availability>, Unavailable> {
        let channel = channel.to_owned();
        self.ask(move |view| Ok(view.availability(&skus, &channel, until_us, holders))).await
    }

    /// The same for a channel that somebody has named: one that has no policy where others have is refused. Nobody means a
    /// channel with an empty name.
    pub async fn availability_for(
        &self,
        skus: Vec<String>,
        channel: &str,
        until_us: Option<i64>,
        holders: usize,
    ) -> Result<Result<Vec<Availability>, StockRefusal>, Unavailable> {
        let channel = channel.to_owned();
        self.ask(move |view| {
            if !channel.is_empty()
                && let Err(refusal) = view.looper().facts.stock.check_channel(&channel)
            {
                return Ok(Err(refusal));
            }
            Ok(Ok(view.availability(&skus, &channel, until_us, holders)))
        })
        .await
    }

    /// Whether an event of the ledger says what stands still; `None` where it says that something happened.
    pub(crate) async fn still_stands(&self, event: &Event) -> Result<Option<bool>, Unavailable> {
        let fact = event.fact.clone();
        self.ask(move |view| {
            let reservation = if fact.kind == RESERVATION_KIND { view.reservation(&fact.key)? } else { None };
            Ok(still_stands(&view.looper().facts.stock, reservation.as_ref(), &fact))
        })
        .await
    }

    /// A reservation as it stands now.
    pub async fn reservation(&self, id: &str) -> Result<Option<ReservationView>, Unavailable> {
        let id = id.to_owned();
        self.ask(move |view| view.reservation(&id)).await
    }

    /// What happened to a SKU at a location after a position, oldest first, at most `limit` records. It looks at a
    /// bounded part of the journal: fewer than `limit` does not mean the end, `at_end` does.
    pub async fn ledger(&self, sku: &str, location: &str, after: Position, limit: usize) -> Result<Ledger, ReadError> {
        let (reader, sku, location) = (self.reader.clone(), sku.to_owned(), location.to_owned());
        blocking(move || ledger(&reader, (&sku, &location), after, limit)).await
    }
}

fn ledger(
    reader: &Arc<dyn Reader>,
    (sku, location): (&str, &str),
    after: Position,
    limit: usize,
) -> Result<Ledger, ReadError> {
    let mut page = Ledger { next_after: after, ..Ledger::default() };
    let mut looked_at = 0;
    while looked_at < PAGE_BYTES {
        let from = (page.next_after + 1).max(reader.bounds().first);
        let entries = reader.read(from, STEP_BYTES)?;
        if entries.is_empty() {
            page.at_end = true;
            return Ok(page);
        }
        for entry in entries {
            looked_at += entry.record.len();
            let position = entry.position;
            if !has_text(&entry.record, sku) {
                page.next_after = position;
                continue;
            }
            let Record { recorded_at_us, body } = decode(position, entry.record)?;
            page.next_after = position;
            if let Some(Body::Stock(fact)) = body
                && is_about(&fact, sku, location)
            {
                page.entries.push(LedgerEntry { position, recorded_at_us, fact });
                if page.entries.len() >= limit {
                    return Ok(page);
                }
            }
        }
    }
    Ok(page)
}

/// Whether a text stands in a record: one about a SKU has its name as it is. Most have not, and need not be decoded.
fn has_text(record: &[u8], text: &str) -> bool {
    let Some((first, rest)) = text.as_bytes().split_first() else { return true };
    let mut left = record;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

/// Whether a fact is about a SKU at a location.
fn is_about(fact: &StockFact, sku: &str, location: &str) -> bool {
    match &fact.body {
        Some(StockBody::Reservation(of)) => of.lines.iter().any(|line| line.sku == sku && line.location == location),
        Some(StockBody::Counted(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Moved(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Unavailable(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Safety(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Supply(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Shortage(of)) => of.sku == sku && of.location == location,
        Some(StockBody::Policy(_) | StockBody::Sku(_) | StockBody::Availability(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::has_text;

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        for (record, text, has) in [
            ("MUG-01", "MUG-01", true),
            ("MMUG", "MUG", true),
            ("a MUG", "MUG", true),
            ("MU", "MUG", false),
            ("a", "", true),
        ] {
            assert_eq!(has_text(record.as_bytes(), text), has, "{record} {text}");
        }
    }
}
