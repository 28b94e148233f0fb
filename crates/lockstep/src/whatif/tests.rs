use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use lockstep_connect::pack::Pack;
use lockstep_connect::schema::Schemas;
use lockstep_connect::source::Source;
use lockstep_connect::translate::{Options, Translator};
use lockstep_core::merge::{Latest, Owner, Policy};
use lockstep_core::record::{Body, Probe, Record};
use lockstep_core::{Domain, Facts, Field, Input, InputBody, Raw, Rules, decide};
use lockstep_journal::{Batch, Bounds, Error, Journal, MemoryJournal, SqliteJournal, SqliteOptions};
use prost::Message as _;
use serde_json::{Value, json};

use super::*;

/// Every line of the body is one change: `key email`.
const LINES: &str = r#"map_values(array!(.lines)) -> |line| { { "kind": "customer", "key": string!(line.key), "occurred_at": line.at, "fields": { "email": string!(line.EMAIL) } } }"#;

fn mapping(email: &str) -> String {
    LINES.replace("EMAIL", email)
}

fn source(name: &str, mapping: &str) -> Source {
    let pack = Pack::of_mapping(name, None, "maps/x.vrl", mapping);
    let options = Options { source: name.to_owned(), system: name.to_owned(), ..Options::default() };
    let translator = Translator::new(&pack, Arc::new(Schemas::builtin()), options).unwrap();
    Source::new(name, name, Arc::new(translator))
}

fn other(mapping: &str) -> Other {
    Other::new(Rules::new(), vec![source("shop", mapping)])
}

fn owned_by(system: &str) -> Rules {
    let mut rules = Rules::new();
    let policy = Policy::Owner(Owner { systems: vec![system.to_owned()] });
    let fields = BTreeMap::from([("email".to_owned(), policy)]);
    rules.declare(Domain {
        kind: "customer".to_owned(),
        policy: Policy::Latest(Latest::default()),
        fields,
        ..Domain::default()
    });
    rules
}

/// A hub as far as the history knows it: what it decides is appended to a journal.
struct Past {
    facts: Facts,
    journal: MemoryJournal,
    shop: Source,
}

impl Past {
    fn new() -> Self {
        Self::with(MemoryJournal::new())
    }

    fn with(journal: MemoryJournal) -> Self {
        Self { facts: Facts::new(Rules::new()), journal, shop: source("shop", &mapping("email")) }
    }

    fn append(&mut self, records: &[Record]) {
        let mut batch = Batch::new();
        records.iter().for_each(|record| batch.push(&record.encode_to_vec()));
        self.journal.append(0, &batch).unwrap();
    }

    fn take(&mut self, input: Input) -> u64 {
        let at_us = input.received_at_us;
        let first = self.facts.next;
        // As the hub loads it.
        self.facts.held.extend(input.releases);
        let records = decide(&mut self.facts, input, at_us).unwrap().records;
        self.append(&records);
        first
    }

    fn input(&self, source: &str, id: &str, body: InputBody, raw: Option<Raw>) -> Input {
        Input {
            source: source.to_owned(),
            system: source.to_owned(),
            delivery: id.to_owned(),
            payload_hash: 0,
            reject_reuse: false,
            request_key: None,
            received_at_us: 1_000 * self.facts.next as i64,
            trace: None,
            raw,
            body,
            releases: None,
        }
    }

    /// A delivery of the shop with lines of (key, e-mail, time); gives its first record.
    fn deliver(&mut self, id: &str, lines: &[(&str, &str, i64)]) -> u64 {
        let lines: Vec<_> = lines
            .iter()
            .map(|(key, email, at)| json!({ "key": key, "email": email, "mail": format!("{email}.test"), "at": at }))
            .collect();
        self.deliver_body(id, &json!({ "lines": lines }))
    }

    fn deliver_body(&mut self, id: &str, body: &Value) -> u64 {
        let body = Bytes::from(body.to_string());
        let at_us = 1_000 * self.facts.next as i64;
        let changes = self.shop.translator().translate("", &HeaderMap::new(), &body, at_us);
        let raw = Raw { topic: String::new(), headers: Vec::new(), body };
        let input = self.input("shop", id, changes, Some(raw));
        self.take(input)
    }

    /// A write with an API key, of which no bytes are kept.
    fn write(&mut self, system: &str, id: &str, key: &str, field: (&str, &str), at_us: i64) -> u64 {
        let fields = vec![Field::new(field.0, json!(field.1).to_string())];
        let change = lockstep_core::Change::new("customer", key, 0, at_us, fields).unwrap();
        let input = self.input(system, id, InputBody::Changes(vec![change]), None);
        self.take(input)
    }

    /// What an operator does once the mapping is mended.
    fn release(&mut self, position: u64, keep_raw: bool) -> u64 {
        let entry = self.journal.reader().get(position).unwrap().unwrap();
        let Some(Body::Quarantined(kept)) = Record::read(entry.record).unwrap().body else { panic!("no quarantine") };
        let raw = kept.raw.unwrap();
        let changes = self.shop.translate_again(&raw, kept.received_at_us);
        let mut input = self.input("shop", &kept.delivery, changes, keep_raw.then_some(raw));
        (input.received_at_us, input.releases) = (kept.received_at_us, Some(position));
        self.take(input)
    }

    fn ask(&self, other: &Other, range: &Range) -> Answer {
        let mut done = (0, 0);
        let answer = ask(&mut History::of(self.journal.reader()), other, range, &mut |at, of| {
            assert!(at == done.0 + 1 && at <= of, "{at} of {of} after {done:?}");
            done = (at, of);
        });
        let answer = answer.unwrap();
        assert_eq!(done.0, done.1, "the whole way is told");
        answer
    }
}

fn from(from: u64) -> Range {
    Range::from(from)
}

/// Each different field as `key.field: now (winner, rule) -> what if (winner, rule)`.
fn different(answer: &Answer) -> Vec<String> {
    let said = |said: &Option<Said>| match said {
        Some(said) => format!("{} ({}, {})", said.value.get(), said.winner, said.rule),
        None => "-".to_owned(),
    };
    let lines = answer.differences().flat_map(|entity| {
        let lines = entity.fields.iter();
        let lines = lines.map(|f| format!("{}.{}: {} -> {}", entity.key, f.field, said(&f.now), said(&f.what_if)));
        lines.collect::<Vec<_>>()
    });
    lines.collect()
}

#[test]
fn the_same_mappings_and_rules_give_the_same() {
    let mut past = Past::new();
    past.deliver("1", &[("a", "a@x", 10), ("b", "b@x", 10)]);
    past.write("crm", "1", "a", ("email", "a@crm"), 20);
    past.deliver("2", &[("a", "late@x", 5)]);
    past.append(&[Record::new(0, Body::Probe(Probe {}))]);
    past.facts.next += 1;
    past.deliver("3", &[("a", "a2@x", 30), ("c", "c@x", 30)]);
    for begin in 0..=7 {
        let answer = past.ask(&other(&mapping("email")), &from(begin));
        assert_eq!(different(&answer), [""; 0], "from {begin}");
        assert!(!answer.summary.different, "{:?}", answer.summary);
    }
    let summary = past.ask(&other(&mapping("email")), &from(1)).summary;
    assert_eq!((summary.records, summary.translated, summary.without_raw), (7, 3, 1));
    assert_eq!((summary.entities_compared, summary.from, summary.to, summary.kept_from), (3, 1, 7, 1));
    let summary = past.ask(&other(&mapping("email")), &from(5)).summary;
    assert_eq!((summary.records, summary.entities_compared), (3, 2), "b is not touched");
}

#[test]
fn a_delivery_that_was_recorded_again_counts_again() {
    let mut past = Past::new();
    past.deliver("1", &[("a", "a@x", 10)]);
    // Its id was remembered no longer.
    past.facts.seen.clear();
    past.deliver("1", &[("a", "a2@x", 20)]);
    let answer = past.ask(&other(&mapping("email")), &from(1));
    assert_eq!(different(&answer), [""; 0]);
    assert_eq!(answer.summary.records, 2);
}

#[test]
fn a_changed_mapping_changes_its_fields_and_no_others() {
    let mut past = Past::new();
    past.deliver("1", &[("a", "a@x", 10), ("b", "b@x", 10)]);
    past.write("crm", "1", "b", ("email", "b@crm"), 20);
    past.write("crm", "2", "a", ("phone", "1"), 20);
    let answer = past.ask(&other(&mapping("mail")), &from(1));
    // The CRM wrote b's later: whatever the shop said is not the document.
    assert_eq!(different(&answer), [r#"a.email: "a@x" (shop, only) -> "a@x.test" (shop, only)"#]);
    assert_eq!((answer.summary.entities_compared, answer.summary.entities_different), (2, 1));
    let count = FieldCount { kind: "customer".into(), field: "email".into(), count: 1 };
    assert_eq!(answer.summary.fields_different, [count]);
    assert!(answer.summary.different);
}

#[test]
fn a_mapping_may_name_other_entities_than_before() {
    let mut past = Past::new();
    past.write("crm", "0", "x-a", ("phone", "1"), 5);
    past.deliver("1", &[("a", "a@x", 10)]);
    let renamed = mapping("email").replace("string!(line.key)", r#""x-" + string!(line.key)"#);
    let answer = past.ask(&other(&renamed), &from(2));
    // x-a was there before the range: found although what really happened does not touch it.
    let changes: Vec<_> = answer.differences().map(|d| (d.key, d.change)).collect();
    assert_eq!(changes, [("a".to_owned(), Change::Removed), ("x-a".to_owned(), Change::Changed)]);
    let expected = [r#"a.email: "a@x" (shop, only) -> -"#, r#"x-a.email: - -> "a@x" (shop, only)"#];
    assert_eq!(different(&answer), expected);
    let answer = past.ask(&other("[]"), &from(2));
    assert_eq!((answer.summary.ignored, answer.summary.entities_removed), (1, 1));
}

#[test]
fn changed_rules_change_winners_from_the_position_on() {
    let mut past = Past::new();
    past.write("crm", "1", "a", ("email", "a@crm"), 10);
    past.deliver("1", &[("a", "a@x", 20), ("b", "b@x", 20)]);
    past.write("crm", "2", "b", ("email", "b@crm"), 10);
    past.write("crm", "3", "c", ("email", "c@crm"), 30);
    let crm = Other::new(owned_by("crm"), vec![source("shop", &mapping("email"))]);
    let a = r#"a.email: "a@x" (shop, latest) -> "a@crm" (crm, owner)"#;
    let b = r#"b.email: "b@x" (shop, latest) -> "b@crm" (crm, owner)"#;
    assert_eq!(different(&past.ask(&crm, &from(1))), [a, b]);
    // What was claimed before counts, as it stood then.
    assert_eq!(different(&past.ask(&crm, &from(2))), [a, b]);
    assert_eq!(different(&past.ask(&crm, &from(4))), [b]);
    assert_eq!(different(&past.ask(&crm, &from(5))), [""; 0]);
    let range = Range { to: Some(3), ..from(1) };
    assert_eq!(different(&past.ask(&crm, &range)), [a], "b's owner has not spoken yet");
}

#[test]
fn a_range_never_cuts_a_delivery() {
    let mut past = Past::new();
    past.write("crm", "1", "z", ("email", "z@crm"), 1);
    let first = past.deliver("1", &[("a", "a@x", 10), ("b", "b@x", 10), ("c", "c@x", 10)]);
    past.write("crm", "2", "z", ("email", "z2@crm"), 2);
    let range = Range { to: Some(first + 1), ..from(first + 1) };
    let answer = past.ask(&other(&mapping("mail")), &range);
    assert_eq!((answer.summary.from, answer.summary.to, answer.summary.records), (first, first + 2, 3));
    assert_eq!(answer.summary.entities_different, 3);
}

#[test]
fn what_is_understood_no_longer_and_what_is_at_last_is_told() {
    let mut past = Past::new();
    past.deliver("1", &[("a", "a@x", 10)]);
    let broken = past.deliver_body("2", &json!({ "lines": [{ "key": "b", "mail": "b@y", "at": 20 }] }));
    let answer = past.ask(&other(&mapping("mail")), &from(1));
    assert_eq!(answer.summary.newly_quarantined, 0);
    let understood: Vec<_> = answer.newly_understood.iter().map(|d| (d.position, d.code.as_str(), d.changes)).collect();
    assert_eq!(understood, [(broken, "mapping-failed", 1)]);
    let expected = [r#"a.email: "a@x" (shop, only) -> "a@x.test" (shop, only)"#, r#"b.email: - -> "b@y" (shop, only)"#];
    assert_eq!(different(&answer), expected);
    assert_eq!(answer.summary.entities_added, 1);

    let answer = past.ask(&other(&mapping("nothing")), &from(1));
    let [one] = answer.newly_quarantined.as_slice() else { panic!("{:?}", answer.newly_quarantined) };
    assert_eq!((one.position, one.source.as_str(), one.delivery.as_str()), (1, "shop", "1"));
    assert_eq!(one.code, "mapping-failed");
    assert!(one.at.starts_with("maps/x.vrl:1"), "{one:?}");
    assert_eq!((answer.summary.newly_understood, answer.summary.entities_removed), (0, 1));
    let stock = Range { kind: Some("stock".to_owned()), ..from(1) };
    assert!(!past.ask(&other(&mapping("nothing")), &stock).summary.different, "no delivery is about stock");
}

#[test]
fn what_was_released_since_is_no_difference() {
    for keep_raw in [true, false] {
        let mut past = Past::new();
        let broken = past.deliver_body("1", &json!({ "lines": [{ "key": "a", "mail": "a@x", "at": 10 }] }));
        past.write("crm", "1", "a", ("email", "a@crm"), 5);
        past.shop = source("shop", &mapping("mail"));
        let released = past.release(broken, keep_raw);
        assert_eq!(different(&past.ask(&other(&mapping("mail")), &from(1))), [""; 0]);
        let summary = past.ask(&other(&mapping("mail")), &from(1)).summary;
        assert!(!summary.different, "{summary:?}");
        // From the release on: its bytes are with the quarantined record, before the range.
        let answer = past.ask(&other(&mapping("mail")), &from(released));
        assert_eq!((answer.summary.translated, answer.summary.different), (1, false));
        let answer = past.ask(&other(&mapping("email")), &from(released));
        assert_eq!(answer.newly_quarantined[0].position, released);
        assert_eq!(different(&answer), [r#"a.email: "a@x" (shop, latest) -> "a@crm" (crm, only)"#]);
    }
}

#[test]
fn a_release_that_proposed_nothing_may_propose_something() {
    let mut past = Past::new();
    let broken = past.deliver_body("1", &json!({ "lines": [{ "key": "a", "mail": "a@x", "at": 10 }] }));
    past.shop = source("shop", "[]");
    let closed = past.release(broken, true);
    let answer = past.ask(&other(&mapping("mail")), &from(closed));
    assert_eq!(different(&answer), [r#"a.email: - -> "a@x" (shop, only)"#]);
    assert!(!past.ask(&other("[]"), &from(1)).summary.different);
}

#[test]
fn a_source_that_the_other_lacks_is_taken_as_recorded() {
    let mut past = Past::new();
    past.deliver("1", &[("a", "a@x", 10)]);
    let answer = past.ask(&Other::new(Rules::new(), Vec::new()), &from(1));
    assert!(!answer.summary.different);
    assert_eq!(answer.summary.without_source, BTreeMap::from([("shop".to_owned(), 1)]));
}

#[test]
fn what_is_no_longer_kept_is_said() {
    let mut past = Past::with(MemoryJournal::with_segment_bytes_max(512));
    for number in 0..40 {
        past.deliver(&number.to_string(), &[("a", &format!("{number}@x"), number)]);
    }
    let first = past.journal.trim(20).unwrap().first;
    assert!(first > 1);
    let answer = past.ask(&other(&mapping("email")), &from(1));
    assert_eq!((answer.summary.from, answer.summary.kept_from, answer.summary.different), (first, first, false));
    let answer = past.ask(&other(&mapping("mail")), &from(30));
    assert_eq!(different(&answer), [r#"a.email: "39@x" (shop, only) -> "39@x.test" (shop, only)"#]);
}

#[test]
fn a_hub_that_drops_what_is_being_read_is_told_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let small = SqliteOptions { segment_bytes_max: 64 << 10, ..SqliteOptions::default() };
    let mut journal = SqliteJournal::open(&folder.path().join("journal"), small.clone()).unwrap();
    let mut past = Past::new();
    for number in 0..600 {
        past.deliver(&number.to_string(), &[("a", &format!("{number}@x{}", "y".repeat(number % 90)), number as i64)]);
        let record = past.journal.reader().get(number as u64 + 1).unwrap().unwrap().record;
        let mut batch = Batch::new();
        batch.push(&record);
        journal.append(0, &batch).unwrap();
    }
    drop(journal);
    let ask = |history: &mut History, begin| ask(history, &other(&mapping("email")), &from(begin), &mut |_, _| {});
    let mut history = History::open(folder.path()).unwrap();
    assert_eq!(history.bounds(), Bounds { first: 1, next: 601 });
    // A hub starts, drops what is old and ends, all after it was opened here.
    let mut journal = SqliteJournal::open(&folder.path().join("journal"), small).unwrap();
    let first = journal.trim(400).unwrap().first;
    assert!(first > 1 && first <= 400, "{first}");
    let mut batch = Batch::new();
    batch.push(&Record::new(0, Body::Probe(Probe {})).encode_to_vec());
    journal.append(0, &batch).unwrap();
    drop(journal);
    let failed = ask(&mut history, 1).err().unwrap();
    let WhatIfError::Journal(Error::Trimmed { position: 1, first: said }) = failed else { panic!("{failed:?}") };
    assert_eq!(said, first);
    let summary = ask(&mut History::open(folder.path()).unwrap(), 500).unwrap().summary;
    assert_eq!((summary.from, summary.to, summary.kept_from, summary.different), (500, 601, first, false));
}

#[test]
fn what_a_timer_said_is_said_on_both_sides() {
    let mut past = Past::new();
    let fields = [("auth_expires_at", "\"1970-01-01T00:00:09Z\""), ("kind", "\"auth\""), ("order", "\"1\"")];
    let fields = fields.map(|(name, json)| Field::new(name, json)).to_vec();
    let change = lockstep_core::Change::new("payment", "a", 0, 1, fields).unwrap();
    past.take(past.input("psp", "1", InputBody::Changes(vec![change]), None));
    let payment = &past.facts.entities["payment/a"];
    let kind = lockstep_core::TimerKind::AuthorizationExpires;
    let due = lockstep_core::Timer { due_us: kind.due_us(payment).unwrap(), kind, id: payment.id().into() };
    let said = lockstep_core::decide::timer::input(&due, payment, None, past.facts.next, due.due_us).unwrap();
    let at = past.take(said);
    for begin in [1, at] {
        let answer = past.ask(&other("[]"), &from(begin));
        assert_eq!(different(&answer), [""; 0], "from {begin}");
        assert!(answer.summary.entities_compared > 0);
    }
}

#[test]
fn memory_is_bounded_and_says_so() {
    let mut past = Past::new();
    for number in 0..40 {
        past.write("crm", &number.to_string(), &format!("c-{number}"), ("email", &"x".repeat(1000)), number);
    }
    let refused = |begin, bytes_max| {
        let mut history = History::of(past.journal.reader());
        ask(&mut history, &other("[]"), &Range { bytes_max, ..from(begin) }, &mut |_, _| {}).err()
    };
    // Each entity takes about 1.6 KiB on either side.
    assert!(refused(1, 200 << 10).is_none() && refused(21, 100 << 10).is_none());
    assert!(matches!(refused(1, 100 << 10), Some(WhatIfError::TooMuch { from: 1, .. })));
    assert!(matches!(refused(21, 50 << 10), Some(WhatIfError::TooMuch { from: 21, .. })));
    assert!(matches!(refused(21, 1 << 10), Some(WhatIfError::TooMuch { .. })), "names alone are too much");
    // The same entity again and again takes no more.
    for number in 40..400 {
        past.write("crm", &number.to_string(), "c-0", ("email", &"x".repeat(1000)), number);
    }
    let again = Range { bytes_max: 5 << 10, ..from(41) };
    let answer = ask(&mut History::of(past.journal.reader()), &other("[]"), &again, &mut |_, _| {}).unwrap();
    assert_eq!((answer.summary.records, answer.summary.entities_compared), (360, 1));
}

#[test]
fn a_range_that_is_not_there_is_refused() {
    let mut past = Past::new();
    let nothing = past.ask(&other("[]"), &from(1));
    assert_eq!((nothing.summary.different, nothing.summary.records), (false, 0));
    past.deliver("1", &[("a", "a@x", 10)]);
    let refused = |range: Range| {
        let mut history = History::of(past.journal.reader());
        ask(&mut history, &other("[]"), &range, &mut |_, _| {}).err().unwrap().to_string()
    };
    assert_eq!(refused(from(2)), "the journal has the records 1 to 1: nothing begins at 2");
    let backwards = Range { to: Some(0), ..from(1) };
    assert_eq!(refused(backwards), "the range ends at 0, before it begins at 1");
}
