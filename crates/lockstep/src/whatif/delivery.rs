//! The deliveries of the history: the records of one delivery together, as it came in.

use bytes::Bytes;
use lockstep_core::record::{Body, Fact, Record};
use lockstep_core::{Field, Position, QuarantineReason, Raw};

use super::WhatIfError;
use super::history::History;

/// One delivery, and what really became of it.
pub(super) struct Delivery {
    /// Its first record.
    pub(super) position: Position,
    pub(super) recorded_at_us: i64,
    pub(super) received_at_us: i64,
    pub(super) source: String,
    pub(super) system: String,
    pub(super) id: String,
    pub(super) payload_hash: u64,
    pub(super) raw: Option<Raw>,
    /// The quarantined record that it released; 0 where none.
    pub(super) releases: Position,
    pub(super) was: Was,
}

/// What really became of a delivery.
pub(super) enum Was {
    /// Changes, each with its position.
    Understood(Vec<(Position, Fact)>),
    Quarantined(QuarantineReason),
    /// Released from quarantine, and it proposed nothing.
    Closed,
}

/// Calls `take` for each delivery from `from` to `to`, and `seen` with the position of each record.
pub(super) fn each(
    history: &mut History,
    from: Position,
    to: Position,
    mut seen: impl FnMut(Position),
    mut take: impl FnMut(Delivery) -> Result<(), WhatIfError>,
) -> Result<(), WhatIfError> {
    let mut open: Option<Delivery> = None;
    history.each(from, to, |history, position, record| {
        seen(position);
        let Some(mut delivery) = gather(&mut open, position, record) else { return Ok(()) };
        if delivery.releases != 0 && delivery.raw.is_none() {
            remember(history, &mut delivery)?;
        }
        take(delivery)
    })
}

/// What the quarantined record knows and the one that released it does not.
fn remember(history: &mut History, delivery: &mut Delivery) -> Result<(), WhatIfError> {
    let Some(Body::Quarantined(kept)) = history.get(delivery.releases)?.and_then(|record| record.body) else {
        return Ok(());
    };
    delivery.raw = kept.raw;
    if let Was::Closed = delivery.was {
        (delivery.system, delivery.id) = (kept.system, kept.delivery);
        (delivery.payload_hash, delivery.received_at_us) = (kept.payload_hash, kept.received_at_us);
    }
    Ok(())
}

/// The delivery that ends with this record, if one does.
fn gather(open: &mut Option<Delivery>, position: Position, record: Record) -> Option<Delivery> {
    let recorded_at_us = record.recorded_at_us;
    match record.body? {
        Body::Fact(fact) => {
            let is_last = fact.index + 1 >= fact.of;
            let delivery = open.get_or_insert_with(|| begin(position, recorded_at_us, &fact));
            if let Was::Understood(facts) = &mut delivery.was {
                let mut fact = *fact;
                delivery.raw = delivery.raw.take().or_else(|| fact.raw.take());
                own(&mut fact.fields);
                facts.push((position, fact));
            }
            if is_last { open.take() } else { None }
        }
        Body::Quarantined(quarantined) => Some(Delivery {
            position,
            recorded_at_us,
            received_at_us: quarantined.received_at_us,
            source: quarantined.source,
            system: quarantined.system,
            id: quarantined.delivery,
            payload_hash: quarantined.payload_hash,
            raw: quarantined.raw,
            releases: 0,
            was: Was::Quarantined(quarantined.reason.unwrap_or_default()),
        }),
        Body::QuarantineClosed(closed) => Some(Delivery {
            position,
            recorded_at_us,
            received_at_us: recorded_at_us,
            source: closed.source,
            system: String::new(),
            id: String::new(),
            payload_hash: 0,
            raw: None,
            releases: closed.position,
            was: Was::Closed,
        }),
        _ => None,
    }
}

/// Gives values a piece of memory of their own: they were parts of the journal's whole batch, which one entity that is
/// held would else hold with it.
fn own(fields: &mut [Field]) {
    let mut buffer = Vec::with_capacity(fields.iter().map(|field| field.json.len()).sum());
    fields.iter().for_each(|field| buffer.extend_from_slice(&field.json));
    let mut rest = Bytes::from(buffer);
    for field in fields {
        field.json = rest.split_to(field.json.len());
    }
}

fn begin(position: Position, recorded_at_us: i64, fact: &Fact) -> Delivery {
    Delivery {
        position,
        recorded_at_us,
        received_at_us: fact.received_at_us,
        source: fact.source.clone(),
        system: fact.system.clone(),
        id: fact.delivery.clone(),
        payload_hash: fact.payload_hash,
        raw: None,
        releases: fact.releases,
        was: Was::Understood(Vec::with_capacity(fact.of as usize)),
    }
}

/// The range made so wide that it cuts no delivery: a delivery is translated as a whole. Between its facts there may be
/// what they did to stock.
pub(super) fn widen(history: &mut History, from: Position, to: Position) -> Result<(Position, Position), WhatIfError> {
    let bounds = history.bounds();
    // Whether something of the same delivery may stand before a record, and whether after it.
    let mut place = |position| match history.get(position)?.and_then(|record| record.body) {
        Some(Body::Fact(fact)) => Ok((fact.index > 0, fact.index + 1 < fact.of)),
        Some(Body::Stock(stock)) => Ok((stock.origin.is_none(), true)),
        _ => Ok::<_, WhatIfError>((false, false)),
    };
    let (mut from, mut to) = (from.max(bounds.first), to.min(bounds.next - 1));
    while from > bounds.first && place(from)?.0 {
        from -= 1;
    }
    while to + 1 < bounds.next && place(to)?.1 && place(to + 1)?.0 {
        to += 1;
    }
    Ok((from, to))
}
