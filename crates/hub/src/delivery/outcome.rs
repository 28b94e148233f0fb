//! What becomes of an attempt: settled, tried again, or given up, as the pure core says.

use std::time::Instant;

use lockstep_connect::destination::Sent;
use lockstep_core::Position;
use lockstep_core::delivery::{AttemptResult, Cause, Next, Verdict, Worth, next};
use lockstep_core::record::{DeadLetterClosed, DeadLetterEnd, DeadLettered};

use crate::delivery::attempt::{self, Done};
use crate::delivery::board::{End, Parked};
use crate::delivery::queue::Item;
use crate::delivery::replay_queue::Outcome;
use crate::delivery::runner::{PARKED_AFTER_US, Runner, WARN_EVERY, hash};
use crate::delivery::{Down, ReportBody};
use crate::stats::now_us;

impl Runner {
    /// Takes an attempt in that has come back; so many are still under way.
    pub(super) fn take(&mut self, done: Done, under_way: usize) {
        let Done { generation, flight, at_us, number, sent } = done;
        if generation != self.generation {
            return;
        }
        let now = now_us();
        self.health.board.attempted(sent.result == AttemptResult::Delivered, now);
        self.last_minute.count(sent.result.is_failure(), sent.duration_us, now);
        let key = flight.first().map_or(0, |(id, _)| hash(id));
        let may_be_there = sent.result == AttemptResult::Unknown;
        match self.judge(key, &sent, under_way + 1, now) {
            Verdict::Waits => {
                for (id, mut item) in flight {
                    item.may_be_there |= may_be_there;
                    self.window.put_back(id, item);
                }
            }
            Verdict::Counts(result) => {
                let together = flight.len();
                let detail = match together {
                    1 => sent.detail,
                    _ => format!("{together} events in one request: {}", sent.detail),
                };
                let sent = Sent { result, detail, ..sent };
                for (id, mut item) in flight {
                    item.may_be_there |= may_be_there;
                    match result {
                        AttemptResult::Transient
                        | AttemptResult::Unknown
                        | AttemptResult::Rejected
                        | AttemptResult::Denied
                            if together > 1 =>
                        {
                            self.take_apart(id, item, together, (number, at_us, now), &sent);
                        }
                        // It may be one of them that may not be written; and no number of requests is used up by it.
                        AttemptResult::Unauthorized | AttemptResult::Gone if together > 1 => {
                            item.together_max = (together / 2).max(1);
                            self.window.put_back(id, item);
                        }
                        // Who asks for fewer requests gets no more of them.
                        _ => self.settle(id, item, (number, at_us), &sent, now),
                    }
                }
            }
        }
    }

    /// An event that failed with others: which of them is to blame is not known, so it uses up no retry, and goes with half
    /// as many the next time, down to alone.
    fn take_apart(
        &mut self,
        id: String,
        mut item: Item,
        together: usize,
        (number, at_us, now): (u32, i64, i64),
        sent: &Sent,
    ) {
        item.attempted(attempt::record(&item, (number, at_us), sent));
        item.together_max = (together / 2).max(1);
        match next(&self.options.retry, 1, sent.result, now, fastrand::u64(..)) {
            Next::RetryAt { at_us: again_us } => self.park(id, item, again_us, &sent.detail),
            // Refused, so there is nothing to wait for.
            Next::DeadLetter { .. } | Next::Delivered | Next::Paused => self.window.put_back(id, item),
        }
    }

    fn settle(&mut self, id: String, mut item: Item, made: (u32, i64), sent: &Sent, now: i64) {
        match next(&self.options.retry, item.round + 1, sent.result, now, fastrand::u64(..)) {
            Next::Paused => self.window.put_back(id, item),
            Next::Delivered => {
                if item.manual.is_some() {
                    item.attempted(attempt::record(&item, made, sent));
                    self.close(&item, DeadLetterEnd::Delivered);
                } else {
                    let received_at_us = item.event.fact.received_at_us;
                    self.hub.stats.end_to_end.record_us((now - received_at_us).max(0) as u64);
                    self.delivered += 1;
                    self.health.board.ended(&id, item.event.position, End::Delivered);
                }
                self.window.settle(&id, &item, true);
            }
            Next::RetryAt { at_us: again_us } => {
                item.round += 1;
                item.attempted(attempt::record(&item, made, sent));
                let (event, number) = (item.event.position, item.number);
                tracing::debug!(destination = self.name, event, number, detail = sent.detail, "attempt failed");
                // A long wait is worth being known after a restart.
                self.moved |= again_us > now + PARKED_AFTER_US;
                self.park(id, item, again_us, &sent.detail);
            }
            Next::DeadLetter { reason } => {
                self.warn_given_up(item.event.position, reason, &sent.detail);
                item.attempted(attempt::record(&item, made, sent));
                self.dead_letter(&item, reason);
                self.window.settle(&id, &item, false);
            }
        }
    }

    /// Puts an event back until its retry is due.
    fn park(&mut self, id: String, item: Item, again_us: i64, detail: &str) {
        let (position, attempts, detail) = (item.event.position, item.number, detail.to_owned());
        // Nothing waits behind what may be passed, and the list of dead letters or its replay tells of it.
        if !item.may_be_passed() {
            self.health.board.parked(&id, Parked { position, attempts, next_us: again_us, detail });
        }
        self.window.retry_at(id, item, again_us);
    }

    /// What an attempt's result counts as; the log is told when the destination goes down and comes back.
    fn judge(&mut self, key: u64, sent: &Sent, under_way: usize, now_us: i64) -> Verdict {
        let before = self.gate.open().map(|open| (open.cause, open.since_us));
        let verdict = self.gate.take(key, sent.result, sent.duration_us, under_way, now_us);
        let Some(after) = self.gate.open().copied() else {
            if let Some((cause, since_us)) = before {
                self.down = None;
                self.show_condition();
                let (down_s, cause) = ((now_us - since_us) as f64 / 1e6, cause.name());
                tracing::info!(destination = self.name, down_s, cause, "the destination answers again");
            }
            return verdict;
        };
        // What came back late says nothing of why it is down.
        let is_news =
            before.is_none() || sent.result.is_failure() || matches!(after.cause, Cause::Unauthorized | Cause::Gone);
        let detail = match self.down.take() {
            Some(down) if !is_news => down.detail,
            _ => sent.detail.clone(),
        };
        if before.map(|(cause, _)| cause) != Some(after.cause) {
            let (cause, advice) = (after.cause.name(), after.cause.advice());
            tracing::warn!(
                destination = self.name,
                cause,
                detail,
                advice,
                "the destination is down or paused: deliveries wait until a probe gets through"
            );
        }
        let (since_us, probe_at_us) = (after.since_us, after.probe_at_us);
        self.down = Some(Down { since_us, cause: after.cause, detail, probe_at_us });
        self.show_condition();
        verdict
    }

    /// One line now and then, with how many there were: a dead destination must not fill the log. Every dead
    /// letter is in the list with all its attempts.
    fn warn_given_up(&mut self, event: Position, reason: &str, detail: &str) {
        self.given_up += 1;
        let now = Instant::now();
        if self.warned.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        let count = std::mem::take(&mut self.given_up);
        tracing::warn!(destination = self.name, count, event, reason, detail, "deliveries given up");
    }

    pub(super) fn dead_letter(&mut self, item: &Item, reason: &str) {
        if item.manual.is_none() {
            // So that the journal has the event as open before it hears of its end. What was reported once is: each word
            // names all that is open, so it must not be said with every dead letter.
            if item.event.position > self.reported_to {
                self.moved = true;
                self.report_progress();
            }
            self.moved = true;
        }
        let worth = Worth::of(&item.event);
        self.tell(ReportBody::DeadLettered(Box::new(DeadLettered {
            destination: self.name.clone(),
            event: if item.manual.is_some() { item.letter.event } else { item.event.position },
            kind: item.event.fact.kind.clone(),
            key: item.event.fact.key.clone(),
            reason: reason.to_owned(),
            attempts: item.attempts.clone(),
            request: item.prepared.as_ref().map(|p| p.body.clone()).unwrap_or_default(),
            event_type: item.event.fact.event_type.clone(),
            again: item.manual.is_some() && item.replay.is_none(),
            replay: item.replay.as_ref().map_or(0, |ticket| ticket.replay),
            minor: worth.value.as_ref().map(|(minor, _)| *minor),
            currency: worth.value.map(|(_, currency)| currency).unwrap_or_default(),
            promised_at_us: worth.promised_at_us,
            event_at_us: item.event.recorded_at_us,
            origin: None,
        })));
        // Only now: whoever hears of it asks the loop for the dead letter, which has to know it by then.
        self.ended(item, End::Dead);
        if let Some(ticket) = &item.replay {
            ticket.tell(Outcome::Failed);
        }
    }

    /// Notes the end where it can be asked for. The position of what was brought in says nothing here.
    fn ended(&self, item: &Item, end: End) {
        if !item.letter.brought_in {
            let id = lockstep_core::entity_id(&item.event.fact.kind, &item.event.fact.key);
            self.health.board.ended(&id, item.event.position, end);
        }
    }

    pub(super) fn close(&self, item: &Item, end: DeadLetterEnd) {
        if let Some(ticket) = &item.replay {
            // Only what is delivered is news of an event that had been settled before.
            if end == DeadLetterEnd::Delivered {
                self.ended(item, End::Delivered);
            } else {
                self.health.board.unparked(&item.event);
            }
            return ticket.closed(end);
        }
        let ended = match end {
            DeadLetterEnd::Delivered => End::Delivered,
            DeadLetterEnd::Superseded => End::Superseded { by: 0 },
            DeadLetterEnd::Discarded | DeadLetterEnd::Unspecified => End::Filtered,
        };
        self.ended(item, ended);
        let (brought_in, fact) = (item.letter.brought_in, &item.event.fact);
        let entity = if brought_in { lockstep_core::entity_id(&fact.kind, &fact.key).into() } else { String::new() };
        self.tell(ReportBody::Closed(DeadLetterClosed {
            destination: self.name.clone(),
            event: item.letter.event,
            entity,
            event_at_us: if brought_in { item.event.recorded_at_us } else { 0 },
            end: end as i32,
            reason: String::new(),
            by: item.manual.clone().unwrap_or_default(),
            attempts: item.attempts.clone(),
        }));
    }
}
