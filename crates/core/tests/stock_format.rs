//! What the journal holds of stock is golden, as the rest of record format 1 (see `format.rs`): these bytes are what was
//! written once, and they must be read for ever.

use bytes::Bytes;
use lockstep_core::Record;
use lockstep_core::record::Body;
use lockstep_core::stock::record::{
    AvailabilityChanged, Component, CountBasis, Counted, LineFact, Moved, MovementKind, PolicySet, Proposal,
    ReservationFact, ReservationState, SafetySet, ShortageDetected, SkuSet, StockBody, StockFact, StockOrigin,
    SupplySet, UnavailableSet,
};
use prost::Message;

const FIXTURE: &[u8] = include_bytes!("../fixtures/records-1-stock.bin");

fn records() -> Vec<Record> {
    let (sku, location) = (|| "SKU-1".to_owned(), || "berlin".to_owned());
    let at_us = 1_767_225_600_000_000;
    let line = LineFact {
        line: 1,
        item: 2,
        sku: sku(),
        location: location(),
        quantity: 10,
        open: 1,
        consumed: 2,
        released: 3,
        expired: 4,
        acknowledged_at_us: 5,
    };
    let bodies = vec![
        StockBody::Reservation(ReservationFact {
            id: "web:1".into(),
            owner: "cart:1".into(),
            channel: "web".into(),
            state: ReservationState::Committed as i32,
            expires_at_us: at_us + 1,
            promised_at_us: at_us,
            priority: -3,
            request_hash: 0x0123_4567_89ab_cdef,
            committed: true,
            lines: vec![line],
            fresh: true,
            occurred_at_us: at_us,
        }),
        StockBody::Counted(Counted {
            sku: sku(),
            location: location(),
            source: "wms".into(),
            basis: CountBasis::Available as i32,
            quantity: -1,
            as_of_us: at_us,
            ignored: true,
            opening: 7,
            on_hand: 8,
            added_back: 9,
            unusual: false,
        }),
        StockBody::Moved(Moved {
            sku: sku(),
            location: location(),
            source: "wms".into(),
            movement: "m-1".into(),
            kind: MovementKind::ReturnDamaged as i32,
            quantity: -2,
            occurred_at_us: at_us,
            reservation: "web:1".into(),
            on_hand_change: 3,
            damaged_change: 4,
            late: true,
            on_hand: -5,
            supply: "po-1".into(),
            supply_open: 6,
            unreserved: true,
            also: vec![],
        }),
        StockBody::Unavailable(UnavailableSet {
            sku: sku(),
            location: location(),
            as_of_us: at_us,
            damaged: 1,
            quality_control: 2,
            blocked: 3,
            ignored: true,
        }),
        StockBody::Safety(SafetySet { sku: sku(), location: location(), quantity: 4 }),
        StockBody::Policy(PolicySet {
            channel: "web".into(),
            sku: sku(),
            location: location(),
            restricted: true,
            locations: vec![location()],
            fence: Some(0),
            cap: Some(1),
            cap_window_us: 2,
            buffer: Some(3),
            backorder_limit: Some(4),
            priority: Some(-5),
            removed: true,
        }),
        StockBody::Sku(SkuSet {
            sku: sku(),
            scale: 1,
            components: vec![Component { sku: "SKU-2".into(), quantity: 6 }],
        }),
        StockBody::Supply(SupplySet {
            supply: "po-1".into(),
            sku: sku(),
            location: location(),
            open: 5,
            eta_us: at_us,
        }),
        StockBody::Availability(AvailabilityChanged {
            sku: sku(),
            channel: "web".into(),
            atp: 5,
            before: Some(0),
            as_of_us: Some(at_us),
        }),
        StockBody::Shortage(ShortageDetected {
            sku: sku(),
            location: location(),
            shortage: 2,
            before: 1,
            propose: vec![Proposal { reservation: "web:1".into(), line: 1, quantity: 2, committed: true }],
        }),
    ];
    let of = bodies.len() as u32;
    let origin = || StockOrigin {
        source: "wms".into(),
        delivery: "d-1".into(),
        payload_hash: 9,
        request_key: "key-1".into(),
        request_hash: 10,
        received_at_us: at_us,
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        // Came later: what is not said is not written.
        ..StockOrigin::default()
    };
    let fact = |(index, body): (u32, StockBody)| StockFact {
        event_type: "stock.adjusted".into(),
        body: Some(body),
        index,
        of,
        origin: (index == 0).then(|| Box::new(origin())),
    };
    (0..).zip(bodies).map(fact).map(|fact| Record::new(at_us, Body::Stock(Box::new(fact)))).collect()
}

#[test]
fn an_origin_says_for_whom_it_speaks_and_what_it_releases() {
    let origin = StockOrigin { system: "wms".into(), releases: 7, ..StockOrigin::default() };
    let written: String = origin.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, "4203776d734807");
}

#[test]
fn records_of_stock_are_read_for_ever() {
    let records = records();
    let written: Vec<u8> = records.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(FIXTURE == written, "what this version writes has changed: {hex}");
    let mut kept = Bytes::from_static(FIXTURE);
    for expected in &records {
        assert_eq!(&Record::decode_length_delimited(&mut kept).unwrap(), expected);
    }
    assert!(kept.is_empty());
}
