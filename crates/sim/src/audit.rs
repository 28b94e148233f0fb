//! The audit: reads the whole journal as it is durable, and holds it against the ledger of the outside world and
//! against the auditor's own documents. What it returns is what the hub must show.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockstep_core::entity::DELETED_FIELD;
use lockstep_core::record::{Body, Fact, Quarantined, Record};
use lockstep_core::{Entity, Event, Field};
use lockstep_journal::{Entry, Reader};

use crate::auditor::{Book, Document, SEMANTICS};
use crate::ledger::{Ledger, Release, Status};
use crate::orders::audit::{document, is_retry, retries};
use crate::stock::audit::StockAudit;
use crate::violation::{Violation, violated};

/// What follows from the journal.
#[derive(Debug, Default)]
pub struct Audited {
    /// Every entity.
    pub entities: BTreeMap<String, Known>,
    /// Open quarantine: the record, and the message.
    pub held: BTreeMap<u64, usize>,
    /// Recorded deliveries by source: understood, and quarantined.
    pub sources: BTreeMap<String, (u64, u64)>,
    /// The last position.
    pub end: u64,
    /// Stock.
    pub stock: StockAudit,
    deliveries: BTreeMap<(String, String), Delivery>,
    recorded_at_us: i64,
}

#[derive(Debug, Default)]
struct Delivery {
    /// The message it was of.
    message: usize,
    /// Its records: in quarantine first, then understood.
    held: Option<u64>,
    facts: Vec<u64>,
}

/// What follows for one entity.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How often its document has changed.
    pub version: u64,
    /// Its last record.
    pub position: u64,
    /// Its document.
    pub document: Document,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Whether its last record is to be published, and whether any was.
    publishes: bool,
    published: bool,
    /// How often it came back.
    pub recreations: u64,
    book: Book,
}

impl Known {
    /// Whether the hub's entity is the same, in words where not.
    ///
    /// # Errors
    /// Where it is not.
    pub fn compare(&self, id: &str, entity: &Entity) -> Result<(), Violation> {
        if (entity.version, entity.position) != (self.version, self.position) {
            let (version, position) = (entity.version, entity.position);
            let detail = format!(
                "{id} has version {version} of record {position}, should have {} of {}",
                self.version, self.position
            );
            return violated("state", detail);
        }
        same_document(id, &self.document, &entity.document())?;
        if entity.is_deleted() != self.deleted {
            return violated(
                "deleted",
                format!("{id} is deleted: {}, should be {}", entity.is_deleted(), self.deleted),
            );
        }
        for (name, expected) in &self.document {
            let winner =
                entity.field(name).and_then(|f| f.winning()).and_then(|c| entity.systems.get(c.system as usize));
            if winner.is_none_or(|system| system != expected.system) {
                return violated("winner", format!("{id}: {name} is of {winner:?}, should be of {}", expected.system));
            }
        }
        Ok(())
    }
}

fn same_document(what: &str, expected: &Document, found: &[Field]) -> Result<(), Violation> {
    let expected: BTreeMap<&str, Bytes> =
        expected.iter().map(|(name, e)| (*name, Bytes::from_static(e.json.as_bytes()))).collect();
    let found: BTreeMap<&str, Bytes> = found.iter().map(|f| (f.name.as_str(), f.json.clone())).collect();
    if expected == found {
        Ok(())
    } else {
        violated("document", format!("{what} is {found:?}, should be {expected:?}"))
    }
}

/// Audits everything that is durable. At the end of a run (`finished`) nothing may be open any more.
///
/// # Errors
/// The first promise found broken.
pub fn audit(reader: &dyn Reader, ledger: &Ledger, finished: bool) -> Result<Audited, Violation> {
    let mut audited = Audited::default();
    let entries = reader.read(1, usize::MAX).map_err(|e| Violation { code: "journal", detail: e.to_string() })?;
    let mut shown: BTreeMap<(String, u64), Vec<&Entity>> = BTreeMap::new();
    for one in &ledger.shown {
        shown.entry((one.id.clone(), one.entity.position)).or_default().push(&one.entity);
    }
    let records = decoded(entries)?;
    let retries = retries(&records);
    for (position, record) in records {
        if position != audited.end + 1 {
            return violated("gap", format!("record {position} follows on {}", audited.end));
        }
        audited.end = position;
        if retries.contains(&position) {
            let begun = audited.stock.begin_orders(record.recorded_at_us, true);
            begun.map_err(|detail| Violation { code: "order", detail })?;
        }
        if record.recorded_at_us < audited.recorded_at_us {
            return violated("time", format!("record {position} is older than the one before"));
        }
        audited.recorded_at_us = record.recorded_at_us;
        match &record.body {
            Some(Body::Fact(fact)) if audited.is_order(position, fact, ledger)? => {
                let event = Event::of(position, record.clone());
                let document = event.map(|event| document(&event));
                let wrong =
                    |detail: String| Violation { code: "order", detail: format!("record {position}: {detail}") };
                audited.stock.order_fact(record.recorded_at_us, fact, document).map_err(wrong)?;
            }
            Some(Body::Fact(fact)) => {
                audited.stock.end_orders().map_err(|detail| Violation { code: "order", detail })?;
                audited.fact(position, fact, ledger)?;
                let id = String::from(lockstep_core::entity_id(&fact.kind, &fact.key));
                audited.published(position, &record, fact, &id)?;
                for entity in shown.remove(&(id.clone(), position)).unwrap_or_default() {
                    audited.entities[&id].compare(&format!("{id} as it was shown"), entity)?;
                }
            }
            Some(Body::Quarantined(held)) => audited.quarantined(position, held, ledger)?,
            Some(Body::Probe(_)) => {}
            Some(Body::Stock(fact)) => {
                if let Some(origin) = fact.origin.as_ref().filter(|o| ledger.speaks(&o.source)) {
                    audited.sources.entry(origin.source.clone()).or_default().0 += 1;
                }
                audited.stock.record(position, record.recorded_at_us, fact, ledger)?;
            }
            other => return violated("journal", format!("record {position} is none that was asked for: {other:?}")),
        }
    }
    if let Some(((id, position), _)) = shown.into_iter().next() {
        return violated("lost", format!("{id} was shown at record {position}, which is not of it"));
    }
    audited.acknowledged(ledger, finished)?;
    audited.stock.finish(ledger)?;
    Ok(audited)
}

fn decoded(entries: Vec<Entry>) -> Result<Vec<(u64, Record)>, Violation> {
    let one = |entry: Entry| match Record::read(entry.record) {
        Ok(record) => Ok((entry.position, record)),
        Err(_) => violated("journal", format!("record {} can't be decoded", entry.position)),
    };
    entries.into_iter().map(one).collect()
}

impl Audited {
    /// The message that a record is of, with its delivery.
    fn message(
        &mut self,
        source: &str,
        delivery: &str,
        payload: u64,
        ledger: &Ledger,
    ) -> Option<(usize, &mut Delivery)> {
        let message = ledger.entries.iter().position(|e| {
            e.message.way().source == source && e.message.delivery == delivery && e.message.payload == payload
        })?;
        Some((message, self.deliveries.entry((source.to_owned(), delivery.to_owned())).or_default()))
    }

    /// Whether it is about an order that reserves: then it is a word of a delivery that begins here or goes on.
    fn is_order(&mut self, position: u64, fact: &Fact, ledger: &Ledger) -> Result<bool, Violation> {
        if is_retry(fact) {
            return Ok(true);
        }
        let Some((number, delivery)) = self.message(&fact.source, &fact.delivery, fact.payload_hash, ledger) else {
            return Ok(false);
        };
        let message = &ledger.entries[number].message;
        if !message.is_order() {
            return Ok(false);
        }
        delivery.message = number;
        delivery.facts.push(position);
        if fact.index as usize + 1 != delivery.facts.len() {
            return violated("twice", format!("record {position} is {message} again: {:?}", delivery.facts));
        }
        if fact.index == 0 {
            self.sources.entry(fact.source.clone()).or_default().0 += 1;
        }
        Ok(true)
    }

    fn fact(&mut self, position: u64, fact: &Fact, ledger: &Ledger) -> Result<(), Violation> {
        let Some((number, delivery)) = self.message(&fact.source, &fact.delivery, fact.payload_hash, ledger) else {
            return violated(
                "invented",
                format!("record {position} is of no message: {} {}", fact.source, fact.delivery),
            );
        };
        let message = &ledger.entries[number].message;
        let released = delivery.held.unwrap_or(0);
        if fact.releases != released || (released != 0 && delivery.message != number) {
            return violated("twice", format!("record {position} is {message} again (in quarantine: {released})"));
        }
        delivery.message = number;
        delivery.facts.push(position);
        let index = delivery.facts.len() - 1;
        let in_a_row = delivery.facts.first().is_some_and(|first| first + index as u64 == position);
        let Some(said) = message.said().get(index).filter(|_| in_a_row && fact.index as usize == index) else {
            return violated("twice", format!("record {position} is {message} again: {:?}", delivery.facts));
        };
        // Beside what the message says there is what that implies, which the auditor works out for itself.
        let given = |f: &&Field| f.name != DELETED_FIELD && !f.json.is_empty();
        let fields: Vec<_> = fact.fields.iter().filter(given).map(|f| (f.name.as_str(), f.json.as_ref())).collect();
        let gone = fact.fields.iter().find(|f| f.name == DELETED_FIELD).is_some_and(|f| f.json == "true");
        let wanted: Vec<(&str, &[u8])> = said.fields.iter().map(|(name, json)| (*name, json.as_bytes())).collect();
        let stamp = (fact.kind.as_str(), fact.key.as_str(), fact.sequence, fact.occurred_at_us);
        if fields != wanted
            || gone != said.deletes
            || stamp != (said.kind, said.key, said.sequence, said.at_us)
            || fact.of as usize != message.said().len()
        {
            return violated("changed", format!("record {position} is not what {message} says: {fact:?}"));
        }
        if index == 0 {
            self.held.remove(&released);
            self.sources.entry(fact.source.clone()).or_default().0 += 1;
        }
        let known = self.entities.entry(said.id()).or_default();
        if fact.previous != known.position {
            return violated(
                "history",
                format!("record {position} follows on {}, not {}", fact.previous, known.position),
            );
        }
        known.position = position;
        known.book.note(message, said, fact.index);
        let document = known.book.document(said.kind, SEMANTICS);
        let deleted = known.book.is_deleted(SEMANTICS);
        let changed = document_changed(&known.document, &document) || deleted != known.deleted;
        known.version += u64::from(changed);
        // Of what is gone nobody hears but its end, and that only where anybody has heard of it.
        known.publishes = if deleted { !known.deleted && known.published } else { changed };
        known.published |= known.publishes;
        known.recreations += u64::from(known.deleted && !deleted);
        (known.document, known.deleted) = (document, deleted);
        Ok(())
    }

    /// The version and what is published of it are those of the document that follows from the set.
    fn published(&self, position: u64, record: &Record, fact: &Fact, id: &str) -> Result<(), Violation> {
        let known = &self.entities[id];
        if fact.version != known.version {
            let detail = format!("record {position} makes version {} of {id}, not {}", fact.version, known.version);
            return violated("version", detail);
        }
        if Event::is_in(record) != known.publishes {
            return violated("event", format!("record {position} of {id}: a changed document is published, no other"));
        }
        let Some(event) = Event::of(position, record.clone()) else { return Ok(()) };
        if event.fact.event_type.ends_with(".deleted") != known.deleted {
            return violated("event", format!("record {position} of {id} is {}", event.fact.event_type));
        }
        let document: Vec<Field> = event.document().into_iter().cloned().collect();
        same_document(&format!("{id} as published by record {position}"), &known.document, &document)
    }

    fn quarantined(&mut self, position: u64, held: &Quarantined, ledger: &Ledger) -> Result<(), Violation> {
        let Some((number, delivery)) = self.message(&held.source, &held.delivery, held.payload_hash, ledger) else {
            return violated(
                "invented",
                format!("record {position} is of no message: {} {}", held.source, held.delivery),
            );
        };
        if delivery.held.is_some() || !delivery.facts.is_empty() {
            let message = &ledger.entries[number].message;
            return violated("twice", format!("record {position} is {message} again"));
        }
        (delivery.message, delivery.held) = (number, Some(position));
        self.held.insert(position, number);
        self.sources.entry(held.source.clone()).or_default().1 += 1;
        Ok(())
    }

    /// Every acknowledged message is there, exactly where it was said to be, and at the end nothing else is.
    fn acknowledged(&self, ledger: &Ledger, finished: bool) -> Result<(), Violation> {
        let of = |number: usize| {
            let message = &ledger.entries[number].message;
            self.deliveries.get(&(message.way().source.to_owned(), message.delivery.clone()))
        };
        for (position, number) in &ledger.acknowledged {
            let is_there = of(*number).is_some_and(|d| d.held == Some(*position) || d.facts.contains(position));
            if !is_there {
                let message = &ledger.entries[*number].message;
                return violated(
                    "lost",
                    format!("{message} was acknowledged with record {position}, which is not of it"),
                );
            }
        }
        for (number, position) in &ledger.order_recorded {
            if of(*number).and_then(|delivery| delivery.facts.first()) != Some(position) {
                let message = &ledger.entries[*number].message;
                return violated(
                    "lost",
                    format!("{message} was acknowledged with record {position}, which is not of it"),
                );
            }
        }
        let mut accounted = BTreeSet::new();
        for (number, entry) in ledger.entries.iter().enumerate() {
            let (message, found) = (&entry.message, of(number));
            if finished && entry.status == Status::Open {
                return violated("unanswered", format!("{message} was never answered"));
            }
            if message.is_stock() {
                continue;
            }
            let stored = found.map(|d| &ledger.entries[d.message].message);
            if entry.status == Status::Recorded {
                let Some(stored) = stored else {
                    return violated("lost", format!("{message} was acknowledged and is not in the journal"));
                };
                if message.way().is_api && stored.payload != message.payload {
                    return violated("reuse", format!("{message} was taken for {stored}"));
                }
                accounted.insert((message.way().source, message.delivery.as_str()));
            }
            let released = found.is_some_and(|d| d.held.is_some() && !d.facts.is_empty());
            if entry.release == Release::Done && !released {
                return violated("lost", format!("{message} was released, and that is not in the journal"));
            }
        }
        if finished && accounted.len() != self.deliveries.len() {
            let unknown = self.deliveries.keys().find(|(s, d)| !accounted.contains(&(s.as_str(), d.as_str())));
            return violated("unacknowledged", format!("{unknown:?} is in the journal and nobody was told"));
        }
        // A delivery is recorded whole or not at all.
        for delivery in self.deliveries.values().filter(|d| !d.facts.is_empty()) {
            let message = &ledger.entries[delivery.message].message;
            if !message.is_order() && delivery.facts.len() != message.said().len() {
                return violated("torn", format!("of {message} there is only {:?}", delivery.facts));
            }
        }
        Ok(())
    }
}

fn document_changed(before: &Document, after: &Document) -> bool {
    let values = |d: &Document| d.iter().map(|(name, e)| (*name, e.json)).collect::<Vec<_>>();
    values(before) != values(after)
}
