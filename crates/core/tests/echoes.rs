//! Two systems that are told everything and tell everything back: does it end, and are all equal then?
//!
//! Each keeps a copy that it overwrites with whatever it is told, and after every change sends its whole document, as
//! shop systems do. Deliveries wait, webhooks overtake each other, all by chance of a seed.

use std::collections::{BTreeMap, VecDeque};

use lockstep_core::event::Event;
use lockstep_core::record::Record;
use lockstep_core::{Change, Facts, Field, Input, InputBody, Rules, decide};

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

/// How a system takes what it is told.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// It is not told what it has said itself.
    own: usize,
    /// It takes only the fields that the event says have changed.
    only_changed: bool,
}

/// Runs until nothing is on its way any more, and gives the number of events beside that of own updates.
fn run(seed: u64, manners: Manners, updates: usize, values: usize, window: usize) -> Result<(usize, usize), String> {
    let mut rules = Rules::new();
    let mut systems = [System { name: "a", ..System::default() }, System { name: "b", ..System::default() }];
    for system in &systems {
        rules.echo("wish", system.name);
    }
    let mut facts = Facts::new(rules);
    let mut chance = Chance(seed);
    let (mut clock, mut left, mut events) = (0, updates, 0);
    for step in 0.. {
        if step > 200 * updates {
            return Err(format!("seed {seed}: {events} events of {updates} updates, and it goes on"));
        }
        clock += 1;
        let at = chance.below(2);
        let system = &mut systems[at];
        match chance.below(3) {
            0 if left > 0 => {
                left -= 1;
                let field = format!("f{}", chance.below(2));
                system.copy.insert(field, chance.below(values).to_string());
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
                        system.copy.insert(field.name.clone(), json);
                    }
                }
                system.says.push((clock, system.copy.clone()));
            }
            2 if !system.says.is_empty() => {
                let number = chance.below(system.says.len().min(window));
                let (said_at, document) = system.says.remove(number);
                let name = system.name;
                let first = facts.next;
                let decision = decide(&mut facts, input(name, step, said_at, &document), clock).unwrap();
                for (at, record) in decision.records.into_iter().enumerate() {
                    let Some(event) = Event::of(first + at as u64, Record::clone(&record)) else { continue };
                    events += 1;
                    for other in &mut systems {
                        let whole = event.fact.fields.iter().all(|f| event.fact.rest.iter().all(|r| r.name != f.name));
                        let held = match manners.own { 0 => false, 1 => true, _ => whole };
                        if !(held && other.name == name) {
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
    let hub: Document = entity
        .document()
        .iter()
        .map(|f| (f.name.clone(), String::from_utf8(f.json.to_vec()).unwrap()))
        .collect();
    for system in &systems {
        if system.copy != hub {
            return Err(format!("seed {seed}: the hub has {hub:?}, {} has {:?}", system.name, system.copy));
        }
    }
    Ok((events, updates))
}

#[test]
fn two_systems_that_echo_everything_come_to_rest_and_are_equal() {
    for manners in [(1, false), (1, true), (2, false), (2, true)] {
        let manners = Manners { own: manners.0, only_changed: manners.1 };
        for values in [1_000, 3] {
            for window in [1, 2, 3, 5] {
                let results: Vec<_> = (0..1000).map(|seed| run(seed, manners, 40, values, window)).collect();
                let bad: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
                println!("{manners:?} values {values} window {window}: {} of 1000 bad {:?}", bad.len(), bad.first());
            }
        }
    }
}
