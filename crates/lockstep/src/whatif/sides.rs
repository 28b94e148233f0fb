//! The two sides: the entities as they are by what really happened, and as they would be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lockstep_core::decide::Entities;
use lockstep_core::fold::fold;
use lockstep_core::merge::Rule;
use lockstep_core::record::Fact;
use lockstep_core::{Entity, EntityId, Facts, Input, Position, Rules, decide};

use super::WhatIfError;
use super::report::{Change, EntityDifference, FieldDifference, Said};

/// What an entity takes beside its claims, about.
const ENTITY_BYTES: usize = 400;
/// What a claim takes beside its value, about: with its field and its winner.
const CLAIM_BYTES: usize = 160;

/// Who won each field of one side's entities, and how much memory the side takes.
#[derive(Clone, Default)]
struct Winners {
    /// Systems and fields by number: there are few of them and many entities.
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    known: HashMap<String, Known>,
    bytes: usize,
}

/// What is known of one entity.
#[derive(Clone, Default)]
struct Known {
    won: Vec<Won>,
    claims: Vec<Claimed>,
}

/// Who won one field, and by which rule.
#[derive(Clone, Copy)]
struct Won {
    field: u32,
    system: u32,
    rule: i32,
}

/// How long the value is that a system gives a field.
#[derive(Clone, Copy)]
struct Claimed {
    field: u32,
    system: u32,
    bytes: u32,
}

impl Winners {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Takes over what a fact says of its fields.
    fn take(&mut self, id: &str, fact: &Fact) {
        let (id, mut known) = self.known.remove_entry(id).unwrap_or_else(|| {
            self.bytes += ENTITY_BYTES + id.len();
            (id.to_owned(), Known::default())
        });
        let own = self.number(&fact.system);
        for ruling in &fact.rulings {
            let winner = if ruling.winner.is_empty() { own } else { self.number(&ruling.winner) };
            let all = 0..if ruling.fields.is_empty() { fact.fields.len() as u32 } else { 0 };
            for at in ruling.fields.iter().copied().chain(all) {
                let Some(said) = fact.fields.get(at as usize) else { continue };
                let field = self.number(&said.name);
                self.bytes += known.claim(Claimed { field, system: own, bytes: said.json.len() as u32 });
                known.win(Won { field, system: winner, rule: ruling.rule });
            }
        }
        self.known.insert(id, known);
    }

    /// The winner and the rule's name.
    fn of(&self, id: &str, field: &str) -> (&str, &'static str) {
        let number = self.numbers.get(field);
        let won = self.known.get(id).and_then(|known| known.won.iter().find(|won| Some(&won.field) == number));
        won.map_or(("", Rule::Unspecified.code()), |won| {
            let system = self.names.get(won.system as usize).map_or("", String::as_str);
            (system, Rule::try_from(won.rule).unwrap_or(Rule::Unspecified).code())
        })
    }
}

impl Known {
    fn win(&mut self, new: Won) {
        match self.won.iter_mut().find(|won| won.field == new.field) {
            Some(won) => *won = new,
            None => self.won.push(new),
        }
    }

    /// How many bytes more are held than before. Shorter values are taken for as long as the longest one.
    fn claim(&mut self, new: Claimed) -> usize {
        match self.claims.iter_mut().find(|claim| (claim.field, claim.system) == (new.field, new.system)) {
            Some(claim) => {
                let more = new.bytes.saturating_sub(claim.bytes);
                claim.bytes += more;
                more as usize
            }
            None => {
                self.claims.push(new);
                CLAIM_BYTES + new.bytes as usize
            }
        }
    }
}

/// See the module.
pub(super) struct Sides {
    now: Entities,
    now_won: Winners,
    what_if: Facts,
    what_if_won: Winners,
}

impl Sides {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            now: HashMap::default(),
            now_won: Winners::default(),
            what_if: Facts::new(rules),
            what_if_won: Winners::default(),
        }
    }

    /// Folds what really happened.
    pub(super) fn happened(&mut self, position: Position, recorded_at_us: i64, fact: &Fact) {
        let id = lockstep_core::entity_id(&fact.kind, &fact.key);
        self.now_won.take(&id, fact);
        fold(Arc::make_mut(self.now.entry(id).or_default()), position, recorded_at_us, fact);
    }

    /// Both sides begin with what happened up to here.
    pub(super) fn part(&mut self) {
        self.what_if.entities = self.now.clone();
        self.what_if_won = self.now_won.clone();
    }

    /// Decides what would have happened.
    pub(super) fn decide(&mut self, position: Position, at_us: i64, input: Input) -> Result<(), WhatIfError> {
        // Repetitions are not recorded: what is in the journal counts, each time that it is there.
        self.what_if.seen.clear();
        self.what_if.next = position;
        // How far deliveries were at that moment is not recorded: taken as far as they could be.
        self.what_if.sent.insert(input.system.clone(), position - 1);
        let decision =
            decide(&mut self.what_if, input, at_us).map_err(|source| WhatIfError::Refused { position, source })?;
        for record in decision.records {
            if let Some(lockstep_core::record::Body::Fact(fact)) = record.body {
                self.what_if_won.take(&lockstep_core::entity_id(&fact.kind, &fact.key), &fact);
            }
        }
        Ok(())
    }

    /// How much memory both sides take, about.
    pub(super) fn bytes(&self) -> usize {
        self.now_won.bytes + self.what_if_won.bytes
    }

    /// The entities of both sides, in order.
    pub(super) fn ids(&self) -> BTreeSet<&str> {
        self.now.keys().chain(self.what_if.entities.keys()).map(EntityId::as_str).collect()
    }

    /// What is different in an entity, and how many of its fields have the same value from another winner.
    pub(super) fn compare(&self, id: &str) -> (Option<EntityDifference>, u64) {
        let (now, what_if) = (self.now.get(id).map(AsRef::as_ref), self.what_if.entities.get(id).map(AsRef::as_ref));
        let Some(known) = now.or(what_if) else { return (None, 0) };
        // By name, each with its value on both sides.
        let mut fields: BTreeMap<String, [Option<Said>; 2]> = BTreeMap::new();
        for (side, (entity, winners)) in [(now, &self.now_won), (what_if, &self.what_if_won)].into_iter().enumerate() {
            for field in entity.into_iter().flat_map(Entity::document) {
                let (winner, rule) = winners.of(id, &field.name);
                let said = Said::new(&field.json, winner, rule);
                fields.entry(field.name.into()).or_default()[side] = Some(said);
            }
        }
        let mut others = 0;
        let mut different = Vec::new();
        for (field, [now, what_if]) in fields {
            match (&now, &what_if) {
                (Some(now), Some(what_if)) if now.says_the_same(what_if) => {
                    others += u64::from(now.winner != what_if.winner);
                }
                _ => different.push(FieldDifference { field, now, what_if }),
            }
        }
        let change = match (now, what_if) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        if different.is_empty() && change == Change::Changed {
            return (None, others);
        }
        let (kind, key) = (known.kind.to_string(), known.key.to_string());
        (Some(EntityDifference { kind, key, change, fields: different }), others)
    }
}
