//! What a decision needs to know: read for a few inputs before they are decided, and put back after it.

use lockstep_core::decide::{self, Entities};
use lockstep_core::record::{Body, Record};
use lockstep_core::{Change, EntityId, Input, InputBody, Position, Seen, delivery_hash};

use crate::failure::Unavailable;
use crate::looper::{Looper, unreadable};
use crate::state::{State, StateError};

impl Looper {
    /// Everything that deciding some inputs needs. Without it none of them may be decided.
    pub(crate) fn load(&mut self, inputs: &[Input]) -> Result<(), Unavailable> {
        self.has_merged = false;
        self.load_all(inputs).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the state can't be read");
            unreadable(error)
        })
    }

    fn load_all(&mut self, inputs: &[Input]) -> Result<(), StateError> {
        for input in inputs {
            let hash = delivery_hash(&input.source, &input.delivery);
            self.load_seen(hash, |record| same_delivery(record, &input.source, &input.delivery))?;
            if let Some((key, _)) = &input.request_key {
                let hash = decide::request_key_hash(&input.source, key);
                self.load_seen(hash, |record| same_request(record, &input.source, key))?;
            }
            if let Some(position) = input.releases
                && self.state.is_quarantined(position)?
            {
                self.facts.held.insert(position);
            }
            match &input.body {
                InputBody::Stock(commands) => self.load_stock(commands)?,
                InputBody::Retry { order } => self.load_waiting(order)?,
                _ => self.load_touched(input)?,
            }
        }
        Ok(())
    }

    /// Gives back to the state what was loaded; what has a record from `first` on has changed.
    pub(crate) fn put_back(&mut self, first: Position) {
        self.facts.seen.clear();
        self.facts.held.clear();
        self.facts.stock.seen.clear();
        for (id, entity) in self.facts.entities.drain() {
            if entity.position >= first {
                self.state.put(id, entity);
            } else {
                self.state.give_back(id, entity);
            }
        }
    }

    /// The entities that an input speaks of.
    fn load_touched(&mut self, input: &Input) -> Result<(), StateError> {
        let InputBody::Changes(changes) = &input.body else { return Ok(()) };
        let system = input.system.as_str();
        for change in changes {
            change.warm();
            let known;
            let change = if decide::has_aliases(change) {
                for alias in decide::aliases(change) {
                    load_entity(&mut self.state, &mut self.facts.entities, alias.id(), "")?;
                    if let Some((kind, key)) =
                        self.facts.entities.get(&alias.id()).and_then(|alias| decide::holder(alias))
                    {
                        self.load_chain(lockstep_core::entity_id(&kind, &key), None, system)?;
                    }
                }
                known = decide::known_as(&self.facts.entities, change);
                known.as_ref().unwrap_or(change)
            } else {
                change
            };
            self.load_chain(change.id(), Some(change), system)?;
            self.load_reserved(change)?;
            if let Some((id, into)) = decide::merged_by(change) {
                self.load_chain(id, None, system)?;
                into.map_or(Ok(()), |id| self.load_chain(id, None, system))?;
                for id in decide::conflicts_of_merge(&self.facts, change) {
                    load_entity(&mut self.state, &mut self.facts.entities, id, "")?;
                }
            }
        }
        Ok(())
    }

    /// An order that waits, and what it has of stock.
    fn load_waiting(&mut self, key: &str) -> Result<(), StateError> {
        let id = lockstep_core::entity_id("order", key);
        load_entity(&mut self.state, &mut self.facts.entities, id.clone(), "")?;
        for id in decide::reservations_of(&self.facts.entities, &id) {
            self.load_reservation(&id)?;
        }
        Ok(())
    }

    /// What the orders of a change have of stock: also reservations that are over.
    fn load_reserved(&mut self, change: &Change) -> Result<(), StateError> {
        if !self.facts.rules.stock_orders.any() || self.facts.stock.is_empty() {
            return Ok(());
        }
        for order in decide::orders_of(&self.facts.entities, change) {
            for id in decide::reservations_of(&self.facts.entities, &order) {
                self.load_reservation(&id)?;
            }
        }
        Ok(())
    }

    /// An entity, those that it is merged into, and what a change of it may touch.
    fn load_chain(&mut self, mut id: EntityId, change: Option<&Change>, system: &str) -> Result<(), StateError> {
        let mut loaded: Vec<EntityId> = Vec::new();
        loop {
            load_entity(&mut self.state, &mut self.facts.entities, id.clone(), system)?;
            let entity = self.facts.entities.get(&id).map(AsRef::as_ref);
            let next =
                entity.filter(|e| !e.merged_into.is_empty()).map(|e| lockstep_core::entity_id(&e.kind, &e.merged_into));
            if let Some(change) = change {
                for id in decide::also_touched(&self.facts.rules, entity, change) {
                    load_entity(&mut self.state, &mut self.facts.entities, id, "")?;
                }
            }
            match next {
                Some(next) if !loaded.contains(&next) => loaded.push(std::mem::replace(&mut id, next)),
                _ => return Ok(()),
            }
        }
    }

    /// Whom an input's external ids belong to, and what its entities are merged into, may have been said earlier in this
    /// submission: then what they stand for was not loaded with it.
    pub(crate) fn load_late(&mut self, input: &Input) -> Result<(), Unavailable> {
        match &input.body {
            InputBody::Changes(changes) if self.has_merged || changes.iter().any(decide::has_aliases) => {
                self.load_touched(input).map_err(unreadable)
            }
            _ => Ok(()),
        }
    }

    fn load_seen(&mut self, hash: u64, same: impl Fn(&Record) -> Option<Seen>) -> Result<(), StateError> {
        if !self.facts.seen.contains_key(&hash) {
            let read = |position| crate::reading::record(&*self.reader, position);
            if let Some(seen) = self.state.seen(hash, read, same)? {
                self.facts.seen.insert(hash, seen);
            }
        }
        Ok(())
    }
}

fn load_entity(state: &mut State, loaded: &mut Entities, id: EntityId, system: &str) -> Result<(), StateError> {
    if !loaded.contains_key(&id)
        && let Some(entity) = state.take(&id)?
    {
        entity.warm(system);
        loaded.insert(id, entity);
    }
    Ok(())
}

fn same_delivery(record: &Record, source: &str, delivery: &str) -> Option<Seen> {
    let (found_source, found_delivery, payload_hash) = match &record.body {
        Some(Body::Fact(fact)) => (&fact.source, &fact.delivery, fact.payload_hash),
        Some(Body::Quarantined(held)) => (&held.source, &held.delivery, held.payload_hash),
        Some(Body::Stock(stock)) => {
            let origin = stock.origin.as_ref()?;
            (&origin.source, &origin.delivery, origin.payload_hash)
        }
        _ => return None,
    };
    (found_source == source && found_delivery == delivery)
        .then_some(Seen { position: 0, payload_hash: Some(payload_hash) })
}

fn same_request(record: &Record, source: &str, key: &str) -> Option<Seen> {
    match &record.body {
        Some(Body::Fact(fact)) if fact.source == source && fact.request_key == key => {
            Some(Seen { position: 0, payload_hash: Some(fact.request_hash) })
        }
        Some(Body::Stock(stock)) => {
            let origin = stock.origin.as_ref().filter(|origin| origin.source == source && origin.request_key == key)?;
            Some(Seen { position: 0, payload_hash: Some(origin.request_hash) })
        }
        _ => None,
    }
}
