//! Stock as an input beside changes: one memory of what was seen, one order of records, a feed's word into the ledger.

use lockstep_core::record::Body;
use lockstep_core::stock::record::{CountBasis, MovementKind, StockBody, StockFact};
use lockstep_core::stock::{
    Answer, Command, Count, Item, Limits, Movement, PolicyOf, Question, Reserve, Stock, StockRefusal, Unavailable,
};
use lockstep_core::{Change, Event, Facts, Field, Input, InputBody, Outcome, Record, Refusal, Rules, decide, stock};

const NOW: i64 = 1_767_225_600_000_000;
const HOUR: i64 = 3_600_000_000;

fn input(delivery: &str, body: InputBody) -> Input {
    Input {
        source: "api:wms".into(),
        system: "wms".into(),
        delivery: delivery.into(),
        payload_hash: lockstep_core::payload_hash(format!("{body:?}").as_bytes()),
        reject_reuse: true,
        request_key: None,
        received_at_us: NOW,
        trace: Some("00-a".into()),
        raw: None,
        body,
        releases: None,
    }
}

fn count(quantity: i64, as_of_us: i64) -> Command {
    let (source, sku, location) = ("wms".into(), "A".into(), "berlin".into());
    Command::Count(Count { source, sku, location, basis: CountBasis::OnHand, quantity, as_of_us, ..Count::default() })
}

fn reserve(id: &str, quantity: i64, expires_at_us: i64) -> Command {
    Command::Reserve(Reserve {
        id: id.into(),
        owner: id.into(),
        channel: "web".into(),
        expires_at_us,
        items: vec![Item { sku: "A".into(), quantity, location: None }],
        ..Reserve::default()
    })
}

fn ask(facts: &mut Facts, delivery: &str, command: Command, now_us: i64) -> Result<(Vec<Record>, Outcome), Refusal> {
    let decision = decide(facts, input(delivery, InputBody::Stock(vec![command])), now_us)?;
    Ok((decision.records, decision.outcome))
}

fn fact(record: &Record) -> &StockFact {
    match &record.body {
        Some(Body::Stock(fact)) => fact,
        other => panic!("{other:?}"),
    }
}

fn available(stock: &mut Stock, now_us: i64) -> i64 {
    stock.availability(&Question { sku: "A", channel: "web", until_us: now_us, holders_max: 0 }, now_us).atp
}

#[test]
fn the_first_record_says_how_it_came_and_a_repetition_is_known() {
    let mut facts = Facts::new(Rules::new());
    let (records, outcome) = ask(&mut facts, "c", count(5, NOW), NOW).unwrap();
    assert_eq!(outcome, Outcome::Stock { position: 1, count: 1, answers: vec![Ok(Answer::Applied)] });
    let origin = fact(&records[0]).origin.as_ref().unwrap();
    assert_eq!((origin.source.as_str(), origin.system.as_str(), origin.delivery.as_str()), ("api:wms", "wms", "c"));
    assert_eq!((origin.received_at_us, origin.trace.as_str()), (NOW, "00-a"));
    let (records, outcome) = ask(&mut facts, "c", count(5, NOW), NOW).unwrap();
    assert_eq!((records, outcome), (vec![], Outcome::Duplicate { of: 1 }));
    let reused = ask(&mut facts, "c", count(6, NOW), NOW);
    assert_eq!(reused, Err(Refusal::KeyReused { key: "c".into(), of: 1 }));
    // What changes nothing is not remembered: it would point to a record of something else.
    let (records, outcome) = ask(&mut facts, "d", count(5, NOW), NOW).unwrap();
    assert_eq!(outcome, Outcome::Stock { position: 0, count: 0, answers: vec![Ok(Answer::Repeated)] });
    assert_eq!((records, facts.next), (vec![], 2));
}

#[test]
fn the_records_of_an_input_are_one_decision() {
    let mut facts = Facts::new(Rules::new());
    let all = vec![count(5, NOW), reserve("o1", 2, NOW + HOUR), reserve("o2", 9, NOW + HOUR)];
    let decision = decide(&mut facts, input("all", InputBody::Stock(all)), NOW).unwrap();
    let numbers: Vec<_> = decision.records.iter().map(fact).map(|f| (f.index, f.of, f.origin.is_some())).collect();
    assert_eq!(numbers, [(0, 2, true), (1, 2, false)]);
    let Outcome::Stock { position: 1, count: 2, answers } = decision.outcome else { panic!("{:?}", decision.outcome) };
    assert!(matches!(answers[2], Err(StockRefusal::Short(_))), "{answers:?}");
    assert_eq!(facts.next, 3);
}

#[test]
fn what_was_due_before_a_refused_command_is_kept() {
    let mut facts = Facts::new(Rules::new());
    ask(&mut facts, "c", count(1, NOW), NOW).unwrap();
    let policy = PolicyOf { channel: "web".into(), backorder_limit: Some(5), ..PolicyOf::default() };
    ask(&mut facts, "p", Command::Policy(policy), NOW).unwrap();
    let eta = Command::Supply {
        supply: "po".into(),
        sku: "A".into(),
        location: "berlin".into(),
        open: 5,
        eta_us: NOW + HOUR,
    };
    ask(&mut facts, "s", eta, NOW).unwrap();
    ask(&mut facts, "r1", reserve("o1", 1, NOW + 10), NOW).unwrap();
    let Command::Reserve(later) = reserve("o2", 1, NOW + HOUR) else { panic!() };
    let later = Command::Reserve(Reserve { backorder_until_us: Some(NOW + HOUR), ..later });
    ask(&mut facts, "r2", later, NOW).unwrap();
    let next = facts.next;
    // The hold is over, and what it gives back is due to the backorder, not to a new sale.
    let refused = ask(&mut facts, "r3", reserve("o3", 1, NOW + HOUR), NOW + 20);
    assert!(matches!(refused, Err(Refusal::Stock(StockRefusal::Short(_)))), "{refused:?}");
    let types: Vec<_> = facts.aside.iter().map(|record| fact(record).event_type.as_str()).collect();
    assert_eq!((types, facts.next), (vec!["reservation.promoted"], next + 1));
    assert!(fact(&facts.aside[0]).origin.is_none(), "nobody asked for it");
}

#[test]
fn an_event_tells_of_a_reservation_whole() {
    let mut facts = Facts::new(Rules::new());
    ask(&mut facts, "c", count(5, NOW), NOW).unwrap();
    let mut both = count(5, NOW);
    let Command::Count(other) = &mut both else { panic!() };
    other.sku = "B".into();
    ask(&mut facts, "cb", both, NOW).unwrap();
    let Command::Reserve(two) = reserve("o1", 2, NOW + HOUR) else { panic!() };
    let items = vec![two.items[0].clone(), Item { sku: "B".into(), quantity: 3, location: None }];
    ask(&mut facts, "r", Command::Reserve(Reserve { items, ..two }), NOW).unwrap();
    let release = Command::Release { id: "o1".into(), lines: vec![(1, 3)] };
    let (records, _) = ask(&mut facts, "x", release, NOW).unwrap();
    let event = Event::of(4, records[0].clone()).unwrap();
    assert_eq!((event.fact.kind.as_str(), event.fact.key.as_str(), event.fact.version), ("reservation", "o1", 4));
    assert_eq!((event.fact.system.as_str(), event.fact.source.as_str()), ("wms", "api:wms"));
    let document: serde_json::Value = serde_json::from_slice(&event.document_json()).unwrap();
    let open: Vec<_> =
        document["lines"].as_array().unwrap().iter().map(|line| line["open"].as_i64().unwrap()).collect();
    assert_eq!(open, [2, 0]);
    // The records alone make the same stock again.
    let mut again = Stock::new(Limits::default());
    stock::fold(&mut again, NOW, fact(&records[0]));
    assert!(again.reservation_view("o1", NOW).is_some());
}

fn told(delivery: &str, fields: &[(&str, &str)], at_us: i64) -> Input {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, json.to_string())).collect();
    let change = Change::new("stock", "A@berlin", 0, at_us, fields).unwrap();
    Input { reject_reuse: false, ..input(delivery, InputBody::Changes(vec![change])) }
}

fn feed(basis: CountBasis) -> Facts {
    let mut rules = Rules::new();
    rules.stock_feeds.insert("wms".into(), basis);
    Facts::new(rules)
}

#[test]
fn a_feeds_word_goes_into_the_ledger_and_not_into_a_document() {
    let mut facts = feed(CountBasis::OnHand);
    let unavailable = r#"{"damaged":1,"lost_label":2}"#;
    let fields = [("on_hand", "9"), ("unavailable", unavailable), ("safety_stock", "1")];
    let decision = decide(&mut facts, told("1", &fields, NOW), NOW).unwrap();
    let types: Vec<_> = decision.records.iter().map(|record| fact(record).event_type.as_str()).collect();
    assert_eq!(types, ["stock.counted", "stock.adjusted", "stock.adjusted"]);
    assert!(facts.entities.is_empty());
    // 9 - 1 damaged - 2 blocked - 1 safety.
    assert_eq!(available(&mut facts.stock, NOW), 5);
    assert_eq!(decide(&mut facts, told("1", &fields, NOW), NOW).unwrap().outcome, Outcome::Duplicate { of: 1 });
    // Null is no count, and what the document says of its basis goes before what is declared.
    let untracked = decide(&mut facts, told("2", &[("on_hand", "null")], NOW + 1), NOW).unwrap();
    assert_eq!(untracked.records, []);
    let available_now = [("available", "4"), ("basis", "\"available\"")];
    decide(&mut facts, told("3", &available_now, NOW + 2), NOW).unwrap();
    assert_eq!(available(&mut facts.stock, NOW), 3, "4 are free, 1 of them is safety stock");
    // Another system's word stays a document.
    let other = Input { system: "shop".into(), ..told("4", &[("on_hand", "7")], NOW + 3) };
    let decision = decide(&mut facts, other, NOW).unwrap();
    assert!(matches!(decision.records[0].body, Some(Body::Fact(_))));
}

#[test]
fn a_feeds_word_that_cant_be_believed_is_quarantined_and_a_client_is_told() {
    let mut facts = feed(CountBasis::OnHand);
    decide(&mut facts, told("1", &[("on_hand", "9")], NOW), NOW).unwrap();
    let contradicts = told("2", &[("on_hand", "8")], NOW);
    let decision = decide(&mut facts, contradicts.clone(), NOW).unwrap();
    assert_eq!(decision.outcome, Outcome::Quarantined { position: 2 });
    let Some(Body::Quarantined(held)) = &decision.records[0].body else { panic!("{:?}", decision.records) };
    assert_eq!(held.reason.as_ref().unwrap().code, "count-differs");
    let too_many = told("3", &[("on_hand", "9223372036854775807")], NOW + 1);
    assert!(matches!(decide(&mut facts, too_many.clone(), NOW).unwrap().outcome, Outcome::Quarantined { .. }));
    let client = Input { reject_reuse: true, delivery: "4".into(), ..too_many };
    let refused = decide(&mut facts, client, NOW);
    assert!(matches!(&refused, Err(Refusal::Stock(StockRefusal::Invalid { field: "quantity", .. }))), "{refused:?}");
    assert_eq!(available(&mut facts.stock, NOW), 9);
}

#[test]
fn a_count_that_looks_absurd_is_marked_or_where_the_system_is_strict_looked_at() {
    let unusual = |decision: &lockstep_core::Decision| match &fact(&decision.records[0]).body {
        Some(StockBody::Counted(counted)) => counted.unusual,
        other => panic!("{other:?}"),
    };
    let mut facts = feed(CountBasis::OnHand);
    // The first of all has nothing to be compared with; less than the limit, or less than before, is as usual.
    for (delivery, quantity, expected) in [("1", "5", false), ("2", "49", false), ("3", "490", true), ("4", "5", false)]
    {
        let at_us = NOW + delivery.parse::<i64>().unwrap();
        let decision = decide(&mut facts, told(delivery, &[("on_hand", quantity)], at_us), NOW + 9).unwrap();
        assert_eq!(unusual(&decision), expected, "{quantity}");
    }
    facts.rules.stock_strict.insert("wms".into());
    let slip = told("5", &[("on_hand", "50")], NOW + 5);
    let decision = decide(&mut facts, slip.clone(), NOW + 9).unwrap();
    let Some(Body::Quarantined(held)) = &decision.records[0].body else { panic!("{:?}", decision.records) };
    assert_eq!(held.reason.as_ref().unwrap().code, "count-unusual");
    assert_eq!(available(&mut facts.stock, NOW + 9), 5);
    // A client is told; and what a person has released is taken, marked.
    let client = ask(&mut facts, "c", count(50, NOW + 6), NOW + 9).unwrap().1;
    assert!(matches!(&client, Outcome::Stock { answers, .. } if matches!(answers[..], [Ok(Answer::Quarantined(_))])));
    let Outcome::Quarantined { position } = decision.outcome else { panic!("{:?}", decision.outcome) };
    facts.held.insert(position);
    let released = decide(&mut facts, Input { releases: Some(position), ..slip }, NOW + 9).unwrap();
    assert!(unusual(&released));
    assert_eq!(available(&mut facts.stock, NOW + 9), 50);
}

#[test]
fn a_count_of_what_was_received_since_the_last_one_is_not_doubted() {
    for basis in [CountBasis::OnHand, CountBasis::Available] {
        let mut facts = Facts::new(Rules::new());
        facts.rules.stock_strict.insert("wms".into());
        let count = |quantity, at_us, is_confirmed| {
            let (source, sku, location) = ("c".into(), "A".into(), "b".into());
            Command::Count(Count {
                source,
                sku,
                location,
                basis,
                quantity,
                as_of_us: at_us,
                is_confirmed,
                ..Count::default()
            })
        };
        let mut number = 0;
        let mut say = |facts: &mut Facts, command| {
            number += 1;
            match ask(facts, &format!("c{number}"), command, NOW + 9).unwrap().1 {
                Outcome::Stock { answers, .. } => answers.into_iter().next().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let is_doubted = |answer| matches!(answer, Ok(Answer::Quarantined(reason)) if reason.code == "count-unusual");
        assert_eq!(say(&mut facts, count(5, NOW, false)), Ok(Answer::Applied));
        let received = Movement {
            source: "c".into(),
            id: "r".into(),
            sku: "A".into(),
            location: "b".into(),
            kind: MovementKind::Receipt,
            quantity: 95,
            occurred_at_us: NOW + 1,
            ..Movement::default()
        };
        assert_eq!(say(&mut facts, Command::Move(received)), Ok(Answer::Applied));
        let damaged = Unavailable {
            sku: "A".into(),
            location: "b".into(),
            as_of_us: NOW + 1,
            damaged: 20,
            quality_control: 0,
            blocked: 0,
        };
        assert_eq!(say(&mut facts, Command::Unavailable(damaged)), Ok(Answer::Applied));
        // 100 lie there, of which 80 are free.
        let most = if basis == CountBasis::OnHand { 999 } else { 799 };
        assert!(is_doubted(say(&mut facts, count(most + 1, NOW + 2, false))), "{basis:?}");
        assert_eq!(say(&mut facts, count(most, NOW + 2, false)), Ok(Answer::Applied), "{basis:?}");
        // Who says that it is true is believed; the count is marked all the same.
        let slip = count(10 * most, NOW + 3, false);
        assert!(is_doubted(say(&mut facts, slip)), "{basis:?}");
        let (decision, _) = ask(&mut facts, "confirmed", count(10 * most, NOW + 3, true), NOW + 9).unwrap();
        let Some(StockBody::Counted(counted)) = &fact(&decision[0]).body else { panic!("{decision:?}") };
        assert!(counted.unusual && counted.quantity == 10 * most, "{counted:?}");
    }
}

#[test]
fn bad_input_is_refused_with_the_field_and_what_would_be_right() {
    let mut facts = Facts::new(Rules::new());
    ask(&mut facts, "c", count(5, NOW), NOW).unwrap();
    let policy = PolicyOf { channel: "web".into(), ..PolicyOf::default() };
    ask(&mut facts, "p", Command::Policy(policy), NOW).unwrap();
    let Command::Reserve(well) = reserve("o1", 1, NOW + HOUR) else { panic!() };
    let item = |sku: &str, quantity: i64, location: Option<&str>| Item {
        sku: sku.into(),
        quantity,
        location: location.map(Into::into),
    };
    let of = |items: Vec<Item>| Command::Reserve(Reserve { items, ..well.clone() });
    let table = [
        (of(vec![]), "items", "must be 1 to 1000, not 0"),
        (of(vec![item("A", 1, None); 1_001]), "items", "must be 1 to 1000, not 1001"),
        (of(vec![item("A", -1, None)]), "items.quantity", "must be 1 to 1000000000000000, not -1"),
        (
            of(vec![item("B", 1, None)]),
            "items.sku",
            "must be one that was counted or moved, is a kit or on order, not `B`",
        ),
        (of(vec![item("A", 1, Some("x"))]), "items.location", "must be one where something lies, not `x`"),
        (
            Command::Reserve(Reserve { channel: "wbe".into(), ..well.clone() }),
            "channel",
            "must be one that has a policy (web), not `wbe`",
        ),
        (reserve("o1", 1, NOW), "expires_at", "must be later than now"),
        (
            reserve("o1", 1, NOW + 31 * 24 * HOUR),
            "expires_at",
            "must be at most 2592000 s from now (`stock.hold_max_s`)",
        ),
        (
            Command::Safety { sku: "A".into(), location: "berlin".into(), quantity: -1 },
            "safety_stock",
            "must be 0 to 1000000000000000, not -1",
        ),
    ];
    for (command, expected, right) in table {
        match ask(&mut facts, expected, command, NOW) {
            Err(Refusal::Stock(StockRefusal::Invalid { field, rule })) => {
                assert_eq!((field, rule.as_str()), (expected, right));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    // What was refused is forgotten; an order's channel is what the order says.
    let ordered = Reserve { channel: "market".into(), is_order: true, ..well.clone() };
    ask(&mut facts, "o", Command::Reserve(ordered), NOW).unwrap();
    assert_eq!(available(&mut facts.stock, NOW), 4);
}

#[test]
fn a_mixed_delivery_is_taken_whole() {
    let mut facts = feed(CountBasis::OnHand);
    let InputBody::Changes(mut changes) = told("1", &[("on_hand", "9")], NOW).body else { panic!() };
    changes.push(Change::new("product", "A", 0, NOW, vec![Field::new("title", "\"Lamp\"")]).unwrap());
    let mixed = Input { body: InputBody::Changes(changes), ..told("1", &[("on_hand", "9")], NOW) };
    let decision = decide(&mut facts, mixed.clone(), NOW).unwrap();
    assert!(matches!(fact(&decision.records[0]).body, Some(StockBody::Counted(_))));
    assert!(fact(&decision.records[0]).origin.is_none(), "the change has it");
    assert!(matches!(&decision.records[1].body, Some(Body::Fact(fact)) if fact.kind == "product"));
    assert!(matches!(decide(&mut facts, mixed, NOW).unwrap().outcome, Outcome::Duplicate { .. }));
}

#[test]
fn goods_of_one_shipment_have_all_left_or_none() {
    let mut facts = Facts::new(Rules::new());
    ask(&mut facts, "1", count(10, NOW - HOUR), NOW).unwrap();
    let components = vec![("A".into(), 1)];
    ask(&mut facts, "2", Command::Sku { sku: "KIT".into(), scale: 0, components }, NOW).unwrap();
    let ship = |id: &str, sku: &str, quantity, occurred_at_us| {
        let (source, id, sku, location) = ("wms".into(), id.into(), sku.into(), "berlin".into());
        let kind = MovementKind::Ship;
        let (reservation, supply) = (None, None);
        Command::Move(Movement {
            source,
            id,
            sku,
            location,
            kind,
            quantity,
            occurred_at_us,
            reservation,
            supply,
            also: vec![],
        })
    };
    let on_hand = |facts: &mut Facts| available(&mut facts.stock, NOW);
    let mut try_both = |delivery: &str, both: Vec<Command>| {
        let (next, before) = (facts.next, on_hand(&mut facts));
        let decided = decide(&mut facts, input(delivery, InputBody::Stock(both)), NOW);
        (decided.map(|decision| decision.outcome), facts.next - next, before - on_hand(&mut facts))
    };
    // A kit has no stock of its own to leave.
    let (refused, records, left) = try_both("3", vec![ship("m1", "A", 2, NOW), ship("m2", "KIT", 1, NOW)]);
    assert!(matches!(refused, Err(Refusal::Stock(StockRefusal::Invalid { field: "sku", .. }))), "{refused:?}");
    assert_eq!((records, left), (0, 0));
    // Nobody can believe the time of one of them.
    let (doubted, records, left) = try_both("4", vec![ship("m1", "A", 2, NOW), ship("m2", "A", 1, NOW + HOUR)]);
    let Ok(Outcome::Stock { answers, .. }) = doubted else { panic!("{doubted:?}") };
    assert!(matches!(answers.as_slice(), [Ok(Answer::Quarantined(_))]), "{answers:?}");
    assert_eq!((records, left), (0, 0));
    // Together they are more than can be counted.
    let most = lockstep_core::stock::QUANTITY_MAX / 2 + 1;
    let (refused, records, left) = try_both("5", vec![ship("m1", "A", most, NOW), ship("m2", "A", most, NOW)]);
    assert!(matches!(refused, Err(Refusal::Stock(StockRefusal::Invalid { field: "quantity", .. }))), "{refused:?}");
    assert_eq!((records, left), (0, 0));
    let (_, records, left) = try_both("6", vec![ship("m1", "A", 2, NOW), ship("m2", "A", 1, NOW)]);
    assert_eq!((records, left), (2, 3));
}

#[test]
fn a_doubted_count_may_be_said_again_also_where_somebody_was_served_before_it() {
    let mut facts = Facts::new(Rules::new());
    let limit = PolicyOf { channel: "web".into(), backorder_limit: Some(9), ..PolicyOf::default() };
    let (supply, sku, location) = ("po-1".into(), "A".into(), "berlin".into());
    let on_order = Command::Supply { supply, sku, location, open: 9, eta_us: NOW };
    let Command::Reserve(later) = reserve("r2", 2, NOW + 9 * HOUR) else { unreachable!() };
    let later = Command::Reserve(Reserve { backorder_until_us: Some(NOW), ..later });
    for (delivery, command) in [
        ("1", count(5, NOW - HOUR)),
        ("2", Command::Policy(limit)),
        ("3", on_order),
        ("4", reserve("r1", 5, NOW + HOUR)),
        ("5", later),
    ] {
        ask(&mut facts, delivery, command, NOW).unwrap();
    }
    // The hold is over, and nobody has said so: whoever waits is served before anything is decided.
    let (now, said) = (NOW + 2 * HOUR, count(7, NOW + 3 * HOUR));
    let next = facts.next;
    let (records, outcome) = ask(&mut facts, "6", said.clone(), now).unwrap();
    let Outcome::Stock { position: 0, count: 0, answers } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(answers.as_slice(), [Ok(Answer::Quarantined(_))]), "{answers:?}");
    assert_eq!((records.len(), facts.aside.len(), facts.next), (0, 1, next + 1));
    assert_eq!(fact(&facts.aside[0]).event_type, "reservation.promoted");
    // Its time has come: the same request has its effect.
    let (records, _) = ask(&mut facts, "6", said, NOW + 3 * HOUR).unwrap();
    assert_eq!(fact(&records[0]).event_type, "stock.counted");
    assert_eq!(available(&mut facts.stock, NOW + 3 * HOUR), 5);
}
