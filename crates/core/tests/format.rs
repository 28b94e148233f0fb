//! Record format 1 is golden: these bytes are what was written once, and they must be read for ever.
//! A failure prints what this version writes, in hexadecimal: it may replace the file only before the format is
//! released.

use bytes::Bytes;
use lockstep_core::change::{QuarantineReason, Raw};
use lockstep_core::record::{
    Attempt, Body, DeadLetterClosed, DeadLetterEnd, DeadLettered, Fact, FactOutcome, LetterOrigin, Probe, Progress,
    QuarantineClosed, Quarantined, Record, ReplayEnded, ReplayProgress, ReplayStarted, RetriesScheduled, Ruling,
};
use lockstep_core::{Effect, Field, merge::Rule};
use prost::Message;

const FIXTURE: &[u8] = include_bytes!("../fixtures/records-1.bin");
const RUNS_FIXTURE: &[u8] = include_bytes!("../fixtures/records-1-runs.bin");
const MEMBERS_FIXTURE: &[u8] = include_bytes!("../fixtures/records-1-members.bin");
const SUPERSEDED_FIXTURE: &[u8] = include_bytes!("../fixtures/records-1-superseded.bin");
const LETTERS_FIXTURE: &[u8] = include_bytes!("../fixtures/records-1-letters.bin");

fn records() -> Vec<Record> {
    let raw = Raw {
        topic: "orders/create".into(),
        headers: vec!["x-topic: a".into()],
        body: Bytes::from_static(b"{\"a\":1}"),
    };
    let attempt = Attempt {
        number: 4,
        at_us: 1_767_225_600_000_001,
        duration_us: 1_500,
        status: 503,
        detail: "answered 503".into(),
        response_head: "busy".into(),
        manual: true,
        ..Attempt::default()
    };
    let bodies = vec![
        Body::Fact(Box::new(Fact {
            source: "shop".into(),
            system: "shopify-eu".into(),
            delivery: "w-1".into(),
            payload_hash: 0x0123_4567_89ab_cdef,
            index: 1,
            of: 2,
            kind: "order".into(),
            key: "web:1001".into(),
            sequence: 7,
            occurred_at_us: 1_767_225_600_000_000,
            fields: vec![
                Field::new("lifecycle", "\"confirmed\""),
                Field::new("total", "{\"currency\":\"EUR\",\"minor\":2490}"),
            ],
            outcome: FactOutcome::Applied as i32,
            version: 3,
            previous: 41,
            event_type: "order.confirmed".into(),
            changed: vec![0],
            rest: vec![Field::new("total", "null")],
            rulings: vec![
                Ruling {
                    fields: vec![0],
                    winner: String::new(),
                    rule: Rule::HighestState as i32,
                    stale: false,
                    effect: 0,
                },
                Ruling { fields: vec![1], winner: "erp".into(), rule: Rule::Owner as i32, stale: true, effect: 0 },
            ],
            trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            raw: Some(raw.clone()),
            request_key: "key-1".into(),
            request_hash: 5,
            releases: 40,
            received_at_us: 1_767_225_600_000_500,
            incomplete: false,
            echoed: false,
            deleted: false,
            ..Fact::default()
        })),
        Body::Quarantined(Quarantined {
            source: "shop".into(),
            system: "shopify-eu".into(),
            delivery: "w-2".into(),
            payload_hash: 9,
            reason: Some(QuarantineReason { code: "schema".into(), detail: "wrong".into(), at: "/total".into() }),
            raw: Some(raw),
            received_at_us: 1,
            trace: String::new(),
        }),
        Body::Progress(Progress {
            destination: "erp".into(),
            cursor: 10,
            open: vec![11, 300],
            delivered: 5,
            filtered: 6,
            own_words: 0,
            skipped: 7,
            read_to: 400,
            ..Progress::default()
        }),
        Body::DeadLettered(Box::new(DeadLettered {
            destination: "erp".into(),
            event: 42,
            kind: "order".into(),
            key: "web:1001".into(),
            reason: "exhausted".into(),
            attempts: vec![attempt.clone()],
            request: Bytes::from_static(b"{}"),
            event_type: "order.placed".into(),
            again: true,
            ..DeadLettered::default()
        })),
        Body::DeadLetterClosed(DeadLetterClosed {
            destination: "erp".into(),
            event: 42,
            end: DeadLetterEnd::Superseded as i32,
            reason: "by hand".into(),
            by: "ops".into(),
            attempts: vec![attempt],
            ..DeadLetterClosed::default()
        }),
        Body::Probe(Probe {}),
        Body::QuarantineClosed(QuarantineClosed { source: "shop".into(), position: 40 }),
    ];
    (1..).zip(bodies).map(|(at, body)| Record::new(1_767_225_600_000_000 + at, body)).collect()
}

/// What facts say since claims have runs, and entities can be deleted, incomplete and echoed.
fn records_with_runs() -> Vec<Record> {
    let fact = Fact {
        source: "shop".into(),
        system: "shopify-eu".into(),
        delivery: "w-3".into(),
        index: 0,
        of: 1,
        kind: "order".into(),
        key: "web:1001".into(),
        fields: vec![Field::new("_deleted", "true"), Field::new("lines[7]", ""), Field::new("note", "\"a\"")],
        outcome: FactOutcome::Applied as i32,
        version: 4,
        previous: 42,
        event_type: "order.deleted".into(),
        changed: vec![0, 1],
        rulings: vec![
            Ruling { fields: vec![0], rule: Rule::Only as i32, ..Ruling::default() },
            Ruling {
                fields: vec![1],
                rule: Rule::Nobody as i32,
                effect: Effect::Silenced as i32,
                stale: true,
                ..Ruling::default()
            },
            Ruling {
                fields: vec![2],
                rule: Rule::Contested as i32,
                effect: Effect::Echoes as i32,
                ..Ruling::default()
            },
        ],
        incomplete: true,
        echoed: true,
        deleted: true,
        ..Fact::default()
    };
    vec![Record::new(1_767_225_600_000_100, Body::Fact(Box::new(fact)))]
}

/// What facts say since entities can be merged.
fn records_of_members() -> Vec<Record> {
    let fact = |key: &str| Fact {
        source: "@operator".into(),
        system: "@operator".into(),
        delivery: "k|1".into(),
        index: 1,
        of: 4,
        kind: "customer".into(),
        key: key.into(),
        outcome: FactOutcome::Applied as i32,
        version: 2,
        previous: 7,
        ..Fact::default()
    };
    let goes = Fact {
        rest: vec![Field::new("email", "\"b\"")],
        event_type: "customer.deleted".into(),
        deleted: true,
        merged: Some("A".into()),
        ..fact("B")
    };
    let takes = Fact {
        fields: vec![Field::new("email", "")],
        changed: vec![0],
        rest: vec![Field::new("email", "\"b\"")],
        rulings: vec![Ruling {
            fields: vec![],
            winner: "shop@B".into(),
            rule: Rule::Latest as i32,
            stale: true,
            effect: Effect::Ignored as i32,
        }],
        event_type: "customer.changed".into(),
        joins: Bytes::from_static(b"\x0a\x08customer\x12\x01B"),
        ..fact("A")
    };
    let said = Fact { system: "shop".into(), via: "B".into(), ..fact("A") };
    let comes = Fact { merged: Some(String::new()), ..fact("B") };
    let loses = Fact { parts: vec!["B".into(), "C".into()], ..fact("A") };
    let all = [goes, takes, said, comes, loses];
    all.into_iter().map(|fact| Record::new(1_767_225_600_000_200, Body::Fact(Box::new(fact)))).collect()
}

/// What is said of dead letters since they are weighed, planned and brought in, and of replays.
fn records_of_letters() -> Vec<Record> {
    let event =
        Record::new(7, Body::Fact(Box::new(Fact { kind: "order".into(), key: "web:1".into(), ..Fact::default() })));
    let origin = LetterOrigin {
        hub: "/hubs/eu".into(),
        event: 40,
        record: 44,
        event_record: event.write(),
        own: true,
        dead_at_us: 9,
        by: "ops".into(),
    };
    let bodies = [
        Body::DeadLettered(Box::new(DeadLettered {
            destination: "erp".into(),
            event: 50,
            minor: Some(129_900),
            currency: "EUR".into(),
            promised_at_us: Some(1_767_225_600_000_000),
            event_at_us: 7,
            origin: Some(origin),
            replay: 48,
            ..DeadLettered::default()
        })),
        Body::DeadLetterClosed(DeadLetterClosed {
            destination: "erp".into(),
            event: 50,
            end: DeadLetterEnd::Delivered as i32,
            entity: "order/web:1".into(),
            event_at_us: 7,
            ..DeadLetterClosed::default()
        }),
        Body::RetriesScheduled(RetriesScheduled {
            destination: "erp".into(),
            events: vec![42, 300],
            at_us: vec![1_767_225_600_000_000, 0],
            by: "ops".into(),
        }),
        Body::ReplayStarted(ReplayStarted {
            destination: "search".into(),
            after: 3,
            until: 900,
            state: true,
            kind: "product".into(),
            key: "A".into(),
            event_type: "product.*".into(),
            rate_per_s: 200,
            stale: true,
            by: "ops".into(),
            first: true,
            skipped: 800,
        }),
        Body::ReplayProgress(ReplayProgress {
            replay: 48,
            cursor: 70,
            after_id: "product/A".into(),
            delivered: 1,
            filtered: 2,
            stale: 3,
            failed: 4,
            passed: 5,
        }),
        Body::ReplayEnded(ReplayEnded { replay: 48, cancelled: true, by: "ops".into() }),
    ];
    (1..).zip(bodies).map(|(at, body)| Record::new(1_767_225_600_000_300 + at, body)).collect()
}

/// What a destination says of its progress since it may be sent the newest event of each entity only.
fn records_of_superseded() -> Vec<Record> {
    let progress = Progress {
        destination: "erp".into(),
        cursor: 10,
        open: vec![11, 300],
        delivered: 5,
        read_to: 400,
        taken: Some(9),
        superseded: vec![12, 299],
        ..Progress::default()
    };
    vec![Record::new(1_767_225_600_000_400, Body::Progress(progress))]
}

fn is_golden(fixture: &'static [u8], records: &[Record]) {
    let written: Vec<u8> = records.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(fixture == written, "what this version writes has changed: {hex}");
    let mut kept = Bytes::from_static(fixture);
    for expected in records {
        assert_eq!(&Record::decode_length_delimited(&mut kept).unwrap(), expected);
    }
    assert!(kept.is_empty());
}

#[test]
fn records_of_format_1_are_read_for_ever() {
    is_golden(FIXTURE, &records());
    is_golden(RUNS_FIXTURE, &records_with_runs());
    is_golden(MEMBERS_FIXTURE, &records_of_members());
    is_golden(LETTERS_FIXTURE, &records_of_letters());
    is_golden(SUPERSEDED_FIXTURE, &records_of_superseded());
}

#[test]
fn a_field_of_a_later_version_is_skipped() {
    let record = &records()[5];
    let mut bytes = record.encode_to_vec();
    // Field 100, length-delimited, three bytes.
    bytes.extend_from_slice(&[0xa2, 0x06, 3, 1, 2, 3]);
    assert_eq!(&Record::read(bytes.into()).unwrap(), record);
}
