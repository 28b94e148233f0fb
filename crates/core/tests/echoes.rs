//! Two systems that are told everything and tell everything back: does it end, and are all equal then?
//!
//! Each keeps a copy that it overwrites with whatever it is told, and after every change sends its whole document, as
//! shop systems do. Deliveries wait, webhooks overtake each other, all by chance of a seed.

use std::collections::{BTreeMap, VecDeque};

use lockstep_core::event::Event;
use lockstep_core::merge::{Policy, Union};
use lockstep_core::record::Record;
use lockstep_core::{Change, Domain, Facts, Field, Input, InputBody, Rules, decide};

/// Chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

type Document = BTreeMap<String, String>;

/// A system on the other side of both webhooks.
#[derive(Default)]
struct System {
    name: &'static str,
    copy: Document,
    /// Events that the hub will deliver, in their order.
    told: VecDeque<Event>,
    /// Documents on their way to the hub, with the system's clock.
    says: Vec<(i64, Document)>,
}

fn input(system: &str, delivery: usize, at: i64, document: &Document) -> Input {
    let fields = document.iter().map(|(name, json)| Field::new(name.as_str(), json.clone())).collect();
    Input {
        source: system.into(),
        system: system.into(),
        delivery: delivery.to_string(),
        payload_hash: delivery as u64,
        reject_reuse: false,
        request_key: None,
        received_at_us: at,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![Change::new("wish", "1", 0, at, fields).unwrap()]),
        releases: None,
    }
}

/// How the systems behave.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// They take only the fields that the event says have changed, else the whole document.
    only_changed: bool,
    /// How many different values people give a field: with a few, they come back to old ones.
    values: usize,
    /// Of how many documents on their way the next one may arrive first: 1 keeps the order.
    window: usize,
}

/// Own updates of both systems in one run.
const UPDATES: usize = 40;

/// Runs until nothing is on its way any more, and gives the number of events, and whether all are equal. A system is not
/// told its own word, as `systems_except` has it.
fn run(seed: u64, manners: Manners) -> Result<(usize, bool), String> {
    let mut rules = Rules::new();
    let mut systems = [System { name: "a", ..System::default() }, System { name: "b", ..System::default() }];
    for system in &systems {
        rules.echo("wish", system.name);
    }
    let mut facts = Facts::new(rules);
    let mut chance = Chance(seed);
    let (mut clock, mut left, mut events) = (0, UPDATES, 0);
    for step in 0.. {
        if step > 200 * UPDATES {
            return Err(format!("seed {seed}: {events} events of {UPDATES} updates, and it goes on"));
        }
        clock += 1;
        let at = chance.below(2);
        let system = &mut systems[at];
        match chance.below(3) {
            0 if left > 0 => {
                left -= 1;
                let field = format!("f{}", chance.below(2));
                system.copy.insert(field, chance.below(manners.values).to_string());
                system.says.push((clock, system.copy.clone()));
            }
            1 if !system.told.is_empty() => {
                let Some(event) = system.told.pop_front() else { continue };
                let sent = facts.sent.entry(system.name.into()).or_default();
                *sent = event.position.max(*sent);
                let changed: Vec<_> = event.changed().collect();
                for field in event.document() {
                    if !manners.only_changed || changed.contains(&field.name.as_str()) {
                        let json = String::from_utf8(field.json.to_vec()).unwrap();
                        system.copy.insert(field.name.to_string(), json);
                    }
                }
                system.says.push((clock, system.copy.clone()));
            }
            2 if !system.says.is_empty() => {
                let number = chance.below(system.says.len().min(manners.window));
                let (said_at, document) = system.says.remove(number);
                let name = system.name;
                let first = facts.next;
                let decision = decide(&mut facts, input(name, step, said_at, &document), clock).unwrap();
                for (at, record) in decision.records.into_iter().enumerate() {
                    let Some(event) = Event::of(first + at as u64, Record::clone(&record)) else { continue };
                    events += 1;
                    for other in &mut systems {
                        if other.name != name {
                            other.told.push_back(event.clone());
                        }
                    }
                }
            }
            _ => {}
        }
        if left == 0 && systems.iter().all(|s| s.told.is_empty() && s.says.is_empty()) {
            break;
        }
    }
    let entity = &facts.entities["wish/1"];
    let hub: Document =
        entity.document().iter().map(|f| (f.name.to_string(), String::from_utf8(f.json.to_vec()).unwrap())).collect();
    Ok((events, systems.iter().all(|system| system.copy == hub)))
}

#[test]
fn two_systems_that_echo_everything_come_to_rest_and_are_equal() {
    // Every change here meets others under way. What two systems can't be told apart by: whether a value that was sent
    // comes back, or a person has chosen it again. Where documents keep their order, and values differ, it shows.
    for (values, window, different_max) in [(1_000, 1, 1), (1_000, 3, 3), (3, 1, 2), (3, 3, 25)] {
        for only_changed in [false, true] {
            let manners = Manners { only_changed, values, window };
            let (mut different, mut all) = (Vec::new(), 0);
            for seed in 0..1_000 {
                let (events, equal) = run(seed, manners).unwrap();
                // Two words under way at once may each replace the other for a while.
                assert!(events <= 4 * UPDATES, "{manners:?}, seed {seed}: {events} events");
                all += events;
                if !equal {
                    different.push(seed);
                }
            }
            assert!(different.len() <= different_max, "{manners:?}: seeds {different:?}");
            assert!(all <= 1_250 * UPDATES, "{manners:?}: {all} events");
        }
    }
}

/// Facts of a kind with a policy for `f`, that two systems are told of and speak of.
fn facts(policy: Policy) -> Facts {
    let mut rules = Rules::new();
    rules.declare(Domain { kind: "wish".into(), policy, ..Domain::default() });
    rules.echo("wish", "a");
    rules.echo("wish", "b");
    Facts::new(rules)
}

/// What a system says at a time, when it has been told everything so far.
fn say(facts: &mut Facts, system: &str, at: i64, json: &str) {
    facts.sent.insert(system.into(), facts.next - 1);
    let document = Document::from([("f".to_owned(), json.to_owned())]);
    decide(facts, input(system, at as usize, at, &document), at).unwrap();
}

fn stands(facts: &Facts) -> &[u8] {
    facts.entities["wish/1"].value("f").unwrap()
}

#[test]
fn who_takes_over_what_stands_is_not_its_writer() {
    let mut facts = facts(Policy::default());
    say(&mut facts, "b", 123, "460");
    // Its own word was under way, and lost; then it takes over what it is told.
    say(&mut facts, "a", 120, "506");
    say(&mut facts, "a", 140, "460");
    say(&mut facts, "b", 136, "583");
    assert_eq!(stands(&facts), b"583", "the other has changed its own word");
}

#[test]
fn the_echo_of_a_union_takes_no_member_from_it() {
    let mut facts = facts(Policy::Union(Union));
    say(&mut facts, "a", 1, "[1]");
    say(&mut facts, "b", 2, "[2]");
    say(&mut facts, "a", 3, "[1,2]");
    assert_eq!(stands(&facts), b"[1,2]");
    say(&mut facts, "b", 4, "[3]");
    assert_eq!(stands(&facts), b"[1,3]", "what it was told is not its own");
}

#[test]
fn a_word_that_stands_is_not_withdrawn_by_an_older_one() {
    let mut facts = facts(Policy::default());
    say(&mut facts, "a", 1, "1");
    say(&mut facts, "b", 2, "2");
    say(&mut facts, "a", 3, "3");
    say(&mut facts, "b", 4, "3");
    say(&mut facts, "a", 5, "2");
    assert_eq!(stands(&facts), b"2", "it has chosen this again: nothing else would tell it otherwise");
}
