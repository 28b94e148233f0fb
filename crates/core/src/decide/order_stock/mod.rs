//! What orders do to stock, in the decision that their documents are part of.
//!
//! Nothing here reacts to a step. After every fact about an order, what its document says it needs is compared with what
//! it has, and the difference is asked of stock: so it makes no difference in which order documents come, how often, or
//! from whom. What was done for an order is a field of it, [`STOCK_FIELD`], which the hub owns: the order names its
//! reservations, and they name it as their owner.

mod book;
mod clerk;
mod goods;
mod said;
mod waiting;

use super::changes::{Speaker, decide_one};
use super::{Decision, Entities, Facts, order, stock as commands};
use crate::EntityId;
use crate::Position;
use crate::change::{Change, Field, Input, Outcome};
use crate::entity_id;
use crate::order::STOCK_FIELD;
use crate::record::{Body, Fact, Record};
use book::Book;
use clerk::Clerk;
use said::Said;
pub use waiting::{Waiting, retry, waiting};

/// How often an order is looked at for one input at most: twice is enough, the second time to see that nothing is left.
const ROUNDS_MAX: usize = 4;

/// Whether orders concern stock at all.
pub(super) fn may_follow(facts: &Facts) -> bool {
    facts.rules.stock_orders.any() && !facts.stock.is_empty()
}

/// Brings stock to where the orders are that `told` is about, and says of them what they have. See [`may_follow`].
pub(super) fn follow(facts: &mut Facts, input: &mut Input, told: &[Fact], now_us: i64) -> Vec<Record> {
    let mut ids: Vec<EntityId> = Vec::new();
    for fact in told.iter().filter(|fact| fact.kind == "order") {
        let id = entity_id(&fact.kind, &fact.key);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    bring(facts, input, ids, told.len() as u32, now_us)
}

/// Looks again at an order of which there was not enough, because stock came. Where it gets nothing that it did not have,
/// nothing is recorded of it.
pub(super) fn again(facts: &mut Facts, input: &mut Input, order: &str, now_us: i64) -> Decision {
    let position = facts.next;
    let id = entity_id("order", order);
    let mut records = Vec::new();
    if may_follow(facts) && facts.entities.contains_key(&id) {
        records = bring(facts, input, vec![id.clone()], 0, now_us);
    }
    let is_fact = |record: &&mut Record| matches!(record.body, Some(Body::Fact(_)));
    let of = records.iter_mut().filter(is_fact).count() as u32;
    if of == 0 {
        // Backorders that were due before it, if anything: those are served all the same.
        facts.aside = records;
        return Decision { records: Vec::new(), outcome: Outcome::Superseded { position: 0, count: 0 } };
    }
    for record in &mut records {
        if let Some(Body::Fact(fact)) = &mut record.body {
            fact.of = of;
        }
    }
    let version = facts.entities.get(&id).map_or(0, |order| order.version);
    let outcome = Outcome::Applied { position, count: records.len() as u32, version, changed: true };
    Decision { records, outcome }
}

/// Brings stock to where orders are, and says of them what they have. The first fact has that index.
fn bring(facts: &mut Facts, input: &mut Input, ids: Vec<EntityId>, mut index: u32, now_us: i64) -> Vec<Record> {
    let mut records = Vec::new();
    for id in ids {
        // What it has may put it on hold, and what follows from that, or followed before and was not said, may concern
        // what it needs; that ends when nothing new is said.
        for _ in 0..ROUNDS_MAX {
            let Some(changes) = settle(facts, &id, &mut records, now_us) else { break };
            let mut say = |change, facts: &mut Facts| {
                let (fact, _) = decide_one(facts, input, (Speaker::Hub, ""), change, index, now_us);
                records.push(Record::new(now_us, Body::Fact(Box::new(fact))));
                index += 1;
            };
            changes.into_iter().for_each(|change| say(change, facts));
            let Some(entity) = facts.entities.get(&id) else { break };
            let derived = order::changes(entity, order::derive(entity), facts.next);
            derived.into_iter().for_each(|change| say(change, facts));
        }
    }
    commands::number(&mut records, None);
    records
}

/// Brings stock to where an order is. What the order has then, as a change of it, where that is another than before.
fn settle(facts: &mut Facts, id: &str, records: &mut Vec<Record>, now_us: i64) -> Option<Vec<Change>> {
    let entity = facts.entities.get(id)?;
    let said = Said::of(entity);
    let policy = facts.rules.stock_orders.of(&said.channel)?;
    let before = Book::of(entity);
    let mut clerk = Clerk::new(&mut facts.stock, &said, policy, before.clone(), now_us);
    clerk.work();
    let (book, moved) = clerk.done();
    facts.next += moved.len() as Position;
    records.extend(moved);
    let entity = facts.entities.get(id).filter(|_| book != before)?;
    Some(order::changes(entity, vec![(now_us, Field::new(STOCK_FIELD, book.json()))], facts.next))
}

/// The orders that a change is about, or that an item is of.
pub fn orders_of(entities: &Entities, change: &Change) -> Vec<EntityId> {
    let own = (change.kind == "order").then(|| change.id());
    let named = order::order_of(&change.kind, &change.fields);
    let known = entities.get(&change.id()).and_then(|entity| order::order_of_entity(entity));
    own.into_iter().chain(named).chain(known).collect()
}

/// The reservations that an order may speak of when it is decided, as far as the order itself knows them.
pub fn reservations_of(entities: &Entities, order: &str) -> Vec<String> {
    let mut ids = entities.get(order).map(|order| Book::of(order).reservations).unwrap_or_default();
    // The next one that it would make: it must not be one that is there already.
    ids.push(Book::name(order.split_once('/').map_or("", |(_, key)| key), ids.len()));
    ids
}
