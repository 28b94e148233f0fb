//! What stock answers, as messages.

use lockstep_core::stock::record::{LineFact, ReservationState};
use lockstep_core::stock::{Availability, Contribution, Holder, ReservationView, Shortfall, ledger_document};
use lockstep_hub::LedgerEntry;

use crate::convert::timestamp;
use crate::v1;

pub(super) fn reservation(id: &str, view: ReservationView) -> v1::Reservation {
    let held = view.state == ReservationState::Held;
    v1::Reservation {
        reservation_id: id.to_owned(),
        owner: view.owner.into(),
        channel: view.channel.into(),
        state: view.state as i32,
        expires_at: held.then(|| timestamp(view.expires_at_us)),
        lines: view.lines.into_iter().map(line).collect(),
    }
}

fn line(line: LineFact) -> v1::ReservationLine {
    v1::ReservationLine {
        line: line.line,
        item: line.item,
        sku: line.sku,
        location: line.location,
        quantity: line.quantity,
        open_quantity: line.open,
        consumed_quantity: line.consumed,
        released_quantity: line.released,
        expired_quantity: line.expired,
        acknowledged_at: (line.acknowledged_at_us != 0).then(|| timestamp(line.acknowledged_at_us)),
    }
}

pub(super) fn shortfall(short: Shortfall) -> v1::Shortfall {
    v1::Shortfall {
        item: short.item,
        sku: short.sku.into(),
        requested_quantity: short.requested,
        available_quantity: short.available,
    }
}

pub(super) fn availability(of: Availability) -> v1::Availability {
    let component = |(per, of): (i64, Availability)| v1::ComponentAvailability {
        quantity_per_kit: per,
        availability: Some(availability(of)),
    };
    v1::Availability {
        sku: of.sku.into(),
        channel: of.channel.into(),
        answered_at: Some(timestamp(of.at_us)),
        atp_quantity: of.atp,
        ato_quantity: of.ato,
        cap_remaining_quantity: of.cap_remaining,
        buffer_quantity: of.buffer,
        incoming_quantity: of.incoming,
        backordered_quantity: of.backordered,
        locations: of.locations.into_iter().map(location).collect(),
        components: of.components.into_iter().map(component).collect(),
        as_of: of.as_of_us.map(timestamp),
        age_us: of.age_us,
        is_fresh: of.is_fresh,
    }
}

pub(super) fn location(of: Contribution) -> v1::LocationStock {
    let fence = |(channel, remaining_quantity, honoured_quantity): (compact_str::CompactString, i64, i64)| v1::Fence {
        channel: channel.into(),
        remaining_quantity,
        honoured_quantity,
    };
    v1::LocationStock {
        location: of.location.into(),
        is_eligible: of.is_eligible,
        on_hand_quantity: of.on_hand,
        damaged_quantity: of.damaged,
        quality_control_quantity: of.quality_control,
        blocked_quantity: of.blocked,
        safety_quantity: of.safety,
        held_quantity: of.held,
        committed_quantity: of.committed,
        atf_quantity: of.atf,
        fences: of.fenced.into_iter().map(fence).collect(),
        usable_quantity: of.usable,
        shortage_quantity: of.shortage,
        as_of: of.as_of_us.map(timestamp),
        holders: of.holders.into_iter().map(holder).collect(),
    }
}

fn holder(of: Holder) -> v1::Holder {
    v1::Holder {
        reservation_id: of.reservation.into(),
        owner: of.owner.into(),
        channel: of.channel.into(),
        open_quantity: of.open,
        expires_at: of.expires_at_us.map(timestamp),
    }
}

pub(super) fn ledger_entry(entry: LedgerEntry) -> v1::LedgerEntry {
    let LedgerEntry { position, recorded_at_us, fact } = entry;
    let document = fact.body.as_ref().map(|body| ledger_document(body).to_string());
    let origin = fact.origin.map(|origin| *origin).unwrap_or_default();
    v1::LedgerEntry {
        position,
        recorded_at: Some(timestamp(recorded_at_us)),
        r#type: fact.event_type,
        source: origin.source,
        system: origin.system,
        delivery_id: origin.delivery,
        document_json: document.unwrap_or_default(),
    }
}
