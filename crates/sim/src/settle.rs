//! The ends of a run: everything heals, everything is delivered, and the hub is held against the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use lockstep_core::{Entity, Outcome};
use lockstep_hub::{QuarantineFilter, Unavailable};
use std::sync::Arc;

use crate::audit::{Audited, audit};
use crate::generate::START_US;
use crate::ledger::{Release, Status, Window};
use crate::op::{Content, Message, Said};
use crate::rules::{FIELDS, KEYS};
use crate::stock::say::{CHANNELS, ITEMS, RESERVATIONS};
use crate::violation::{Violation, violated};
use crate::world::World;

/// Rounds within which a healthy hub must have answered everything.
const ROUNDS_MAX: usize = 200;

/// Entities by id, and the records in quarantine.
type Listed = (BTreeMap<String, Arc<Entity>>, BTreeSet<u64>);

impl World {
    /// Everything that can be done without time passing.
    fn step_all(&mut self) -> Result<(), Violation> {
        if let Some(hub) = &mut self.hub {
            hub.step_loop();
            while hub.step_journal() {}
        }
        while self.step_flush()? {}
        self.take_replies()
    }

    /// Asks the hub and takes all steps that the answer needs. An answer that was drawn from what the disk did not
    /// take is asked for again.
    fn ask<T, F: Future<Output = Result<T, Unavailable>>>(&mut self, question: impl Fn() -> F) -> Result<T, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut asked = Box::pin(question());
        for _ in 0..ROUNDS_MAX {
            match asked.as_mut().poll(&mut context) {
                Poll::Ready(Ok(answer)) => return Ok(answer),
                Poll::Ready(Err(Unavailable::DiskFull | Unavailable::Poisoned(_))) => asked.set(question()),
                Poll::Ready(Err(cause)) => return violated("unavailable", format!("a question got {cause}")),
                Poll::Pending => self.step_all()?,
            }
        }
        violated("stuck", "a question is not answered")
    }

    /// Every entity and every open quarantined delivery, as the hub lists them; nothing where it is closed.
    fn look(&mut self) -> Result<Option<Listed>, Violation> {
        let Some(hub) = self.handle() else { return Ok(None) };
        let mut entities = BTreeMap::new();
        let kinds: BTreeSet<&str> = FIELDS.iter().map(|row| row.kind).collect();
        for kind in kinds {
            let mut after = String::new();
            loop {
                // Small pages, so that there are several.
                let page = self.ask(|| hub.entities(kind, &after, 2))?;
                after = page.items.last().map(|e| e.key.to_string()).unwrap_or_default();
                for entity in page.items {
                    entities.insert(entity.id().into(), entity);
                }
                if !page.more {
                    break;
                }
            }
        }
        let filter = QuarantineFilter { source: None, after: 0, limit: 10_000 };
        let held = self.ask(|| hub.quarantine(filter.clone()))?.items.into_iter().map(|row| row.position).collect();
        Ok(Some((entities, held)))
    }

    /// Audits what is durable and holds the hub against it. The hub must have decided nothing else.
    pub(crate) fn check(&mut self) -> Result<Audited, Violation> {
        self.audit(false)
    }

    fn audit(&mut self, finished: bool) -> Result<Audited, Violation> {
        self.counts.audits += 1;
        // What is due is done first: who waits for stock that a hold has given back meanwhile gets it now.
        for _ in 0..2 {
            self.step_all()?;
        }
        let audited = audit(&*self.disk.reader(), &self.ledger, finished)?;
        let Some((entities, held)) = self.look()? else { return Ok(audited) };
        for (id, known) in &audited.entities {
            match entities.get(id) {
                Some(entity) => known.compare(id, entity)?,
                None => return violated("state", format!("{id} is in the journal, and the hub does not know it")),
            }
        }
        if let Some(id) = entities.keys().find(|id| !audited.entities.contains_key(*id)) {
            return violated("state", format!("the hub knows {id}, which is not in the journal"));
        }
        let expected: BTreeSet<u64> = audited.held.keys().copied().collect();
        if held != expected {
            return violated("quarantine", format!("the hub lists {held:?}, should list {expected:?}"));
        }
        self.check_stock(&audited)?;
        Ok(audited)
    }

    /// What the hub says of stock now.
    fn check_stock(&mut self, audited: &Audited) -> Result<(), Violation> {
        let Some(hub) = self.handle() else { return Ok(()) };
        let skus: Vec<String> = ITEMS.iter().map(|sku| (*sku).to_owned()).collect();
        for channel in CHANNELS {
            let all = self.ask(|| hub.availability(skus.clone(), channel, None, 10))?;
            audited.stock.compare(self.time.now_us(), &all)?;
        }
        let named = (0..RESERVATIONS).map(|number| format!("r{number}"));
        let ids: BTreeSet<String> = named.chain(audited.stock.ids()).collect();
        for id in ids {
            let found = self.ask(|| hub.reservation(&id))?;
            audited.stock.compare_reservation(self.time.now_us(), &id, found.as_ref())?;
        }
        if let Some(broken) = hub.stats().invariants().sentences().next() {
            return violated("invariant", broken);
        }
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        self.handle().is_some_and(|hub| hub.stats().poisoned().is_some())
    }

    /// Closes the hub when it is idle and opens it again: nothing may be different.
    pub(crate) fn restart(&mut self) -> Result<(), Violation> {
        self.counts.restarts += 1;
        for _ in 0..ROUNDS_MAX {
            if self.is_answered() {
                break;
            }
            self.step_all()?;
        }
        let before = self.look()?.filter(|_| !self.is_poisoned());
        self.close();
        self.open()?;
        let after = self.look()?;
        // After a failed sync there may be more than was known.
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            return violated("restart", format!("before a restart {before:?}, after it {after:?}"));
        }
        self.check().map(drop)
    }

    /// Everything heals, everything is sent until it is answered; then the last audit, once more after a restart,
    /// and once more with the state rebuilt from the journal alone.
    ///
    /// # Errors
    /// Where a promise is broken.
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.disk.set_full(false);
        self.disk.fail_next_sync(None);
        self.set_state_failing(false)?;
        self.deliver_all()?;
        self.flush_all()?;
        let audited = self.audit(true)?;
        audited.stock.quiet(self.time.now_us())?;
        self.conserve(&audited)?;
        self.counts.recreations += audited.entities.values().map(|known| known.recreations).sum::<u64>();
        self.counts.stock_applied += audited.stock.recorded.len() as u64;
        self.counts.stock_unrecorded += self.ledger.unrecorded.len() as u64;
        self.counts.order_checks += audited.stock.orders.checked;
        self.counts.orders_short += audited.stock.orders.short;
        self.counts.orders_retried += audited.stock.orders.retried;
        self.counts.stock_expired += audited.stock.expired;
        self.counts.stock_backordered += audited.stock.backordered;
        self.counts.stock_promoted += audited.stock.promoted;
        self.restart()?;
        self.close();
        self.on_files(|files| files.remove())?;
        self.open()?;
        self.audit(true)?;
        self.repeat_all()?;
        self.counts.records += self.disk.next() - 1;
        self.counts.sync_failed += self.disk.failed();
        self.counts.seeds += 1;
        Ok(())
    }

    fn deliver_all(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            if self.hub.is_none() || self.is_poisoned() {
                self.close();
                self.open()?;
                self.check()?;
            }
            self.pass(700);
            self.send_again();
            self.release()?;
            while !self.network.is_empty() {
                self.arrive(0, 3)?;
                self.step_all()?;
            }
            for _ in 0..4 {
                self.step_all()?;
            }
            let open = self.ledger.entries.iter().any(|e| e.status == Status::Open);
            let wanted = |e: &crate::ledger::Entry| matches!(e.release, Release::Wanted | Release::Asking);
            // What was released and is no broken message's first record can't be wanted any more.
            let waiting = self.ledger.entries.iter().any(|e| wanted(e) && e.held.is_some());
            if !open && !waiting && self.network.is_empty() && self.is_answered() {
                return Ok(());
            }
        }
        let open = self.ledger.entries.iter().filter(|e| e.status == Status::Open).map(|e| e.message.to_string());
        violated("stuck", format!("not answered: {:?}", open.collect::<Vec<_>>()))
    }

    /// A healthy hub gets its state to the file, also while inputs come all the time.
    fn flush_all(&mut self) -> Result<(), Violation> {
        let flushed = |world: &Self| world.handle().map_or(0, |hub| hub.stats().flushed.load(Ordering::Relaxed));
        let end = self.disk.next();
        for round in 0..10 {
            // Time for a flush has come with a change that the journal does not have yet.
            let message = self.ledger.say(last_word(round));
            self.pass(60_000);
            self.submit(vec![message])?;
            if let Some(hub) = &mut self.hub {
                hub.step_loop();
            }
            self.step_flush()?;
            self.step_all()?;
            self.step_all()?;
        }
        if flushed(self) < end {
            return violated("stuck", "the state is never flushed while inputs come");
        }
        self.pass(60_000);
        self.step_all()?;
        self.step_all()?;
        if flushed(self) + 1 < self.disk.next() { violated("stuck", "the state is never flushed") } else { Ok(()) }
    }

    fn conserve(&mut self, audited: &Audited) -> Result<(), Violation> {
        let Some(hub) = self.handle() else { return Ok(()) };
        let tallies = hub.stats().tallies();
        if let Some(broken) = tallies.violations().first() {
            return violated("conservation", broken.clone());
        }
        let mut more = 0;
        for (source, (understood, held)) in &audited.sources {
            let tally = tallies.sources.get(source).cloned().unwrap_or_default();
            let settled = tally.applied + tally.superseded;
            // Where nothing was proposed only the sum knows.
            more += settled.saturating_sub(*understood);
            if settled < *understood || tally.quarantined != *held {
                let detail = format!("{source}: {understood} understood and {held} quarantined, but {tally:?}");
                return violated("conservation", detail);
            }
        }
        if more > self.empty_submitted {
            return violated("conservation", format!("{more} deliveries more were counted than recorded"));
        }
        Ok(())
    }

    /// Sends everything that was recorded once more: nothing new may come of it.
    fn repeat_all(&mut self) -> Result<(), Violation> {
        let Some(hub) = self.handle() else { return Ok(()) };
        // What was left to tell channels comes first.
        self.step_all()?;
        self.step_all()?;
        let end = self.disk.next();
        for number in 0..self.ledger.entries.len() {
            let entry = &self.ledger.entries[number];
            if entry.status != Status::Recorded {
                continue;
            }
            let message = entry.message.clone();
            let input = message.input(0, None).map_err(|e| Violation { code: "simulation", detail: e.to_string() })?;
            let (from, asked_us) = (self.disk.next(), self.time.now_us());
            let answers = self.ask(|| hub.submit(vec![input.clone()]))?;
            if !matches!(answers.first(), Some(Ok(Outcome::Duplicate { .. }))) {
                return violated("twice", format!("{message} was sent again after all and got {answers:?}"));
            }
            let window = Window { from, durable_next: self.disk.next(), asked_us, told_us: asked_us };
            answers.iter().try_for_each(|answer| self.ledger.answer(number, answer, false, window))?;
        }
        if self.disk.next() != end {
            return violated("twice", "sending everything again made new records");
        }
        self.audit(true).map(drop)
    }
}

/// A change for when the network has nothing more.
fn last_word(round: i64) -> Message {
    let said = Said {
        kind: "job",
        key: KEYS[0],
        sequence: 0,
        at_us: START_US + round,
        deletes: false,
        fields: vec![("total", "10")],
        expected: None,
    };
    let (delivery, payload) = (format!("last-{round}"), u64::MAX - round as u64);
    Message { way: 0, delivery, payload, request_key: None, content: Content::Changes(vec![said]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::history;
    use crate::op::Op;

    #[test]
    fn a_quiet_world_settles() {
        let (setup, ops) = history(1, 60);
        let mut world = World::new(setup).unwrap();
        let calm = |op: &&Op| matches!(op, Op::Say(_) | Op::Arrive { .. } | Op::Loop | Op::Journal | Op::Flush);
        for op in ops.iter().filter(calm) {
            world.apply(op).unwrap();
        }
        world.settle().unwrap();
        let said = world.ledger.entries.iter().filter(|e| !matches!(e.message.content, Content::Broken(_))).count();
        assert!(said > 3 && world.counts.records > 3, "{said} said, {:?}", world.counts);
    }
}
