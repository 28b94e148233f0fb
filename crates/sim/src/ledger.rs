//! What the outside world knows: all messages, and what the hub has answered. Nothing here comes from the hub's
//! own data.

use std::collections::BTreeMap;

use lockstep_core::stock::Answer as Stocked;
use lockstep_core::{Entity, Outcome, Refusal};
use lockstep_hub::Answer;

use crate::op::{Content, Message};
use crate::stock::model::Said;
use crate::violation::{Violation, violated};

/// What became of a message as far as its source knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not answered: it has to be sent again.
    Open,
    /// Acknowledged as recorded, now or before.
    Recorded,
    /// Acknowledged; it proposed nothing.
    Nothing,
    /// Refused as an error of its sender.
    Refused,
}

/// What an operator has done about a broken message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    None,
    /// It is to be released.
    Wanted,
    /// The hub is being asked.
    Asking,
    /// The hub has said that it is released.
    Done,
}

/// A message and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The message.
    pub message: Message,
    /// Its status.
    pub status: Status,
    /// The record that keeps it in quarantine, once that was acknowledged.
    pub held: Option<u64>,
    /// Its release from there.
    pub release: Release,
}

/// A command to stock that was answered without a record.
#[derive(Clone, Debug)]
pub struct Unrecorded {
    /// Which.
    pub message: usize,
    /// What was answered.
    pub said: Said,
    /// The next record when it was asked, and when it was answered.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// When it was asked, and answered.
    pub asked_us: i64,
    /// See `asked_us`.
    pub told_us: i64,
}

/// When something was asked and answered, by the clock and by the journal's next record.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The next record when it was asked.
    pub from: u64,
    /// The next record that is not durable yet.
    pub durable_next: u64,
    /// When it was asked.
    pub asked_us: i64,
    /// When it was answered.
    pub told_us: i64,
}

/// A document that was shown to a reader.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The entity.
    pub id: String,
    /// As it was shown.
    pub entity: Entity,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// All messages.
    pub entries: Vec<Entry>,
    /// Which record acknowledged which message.
    pub acknowledged: BTreeMap<u64, usize>,
    /// Commands to stock that had an effect, with the first record of it.
    pub stock_recorded: BTreeMap<usize, u64>,
    /// Documents about orders, with their first record.
    pub order_recorded: BTreeMap<usize, u64>,
    /// Those commands that had none.
    pub unrecorded: Vec<Unrecorded>,
    /// What readers have seen.
    pub shown: Vec<Shown>,
    latest: BTreeMap<String, (u64, u64)>,
}

impl Ledger {
    /// Whether it is a way in of the outside world, and not the hub's own voice.
    pub fn speaks(&self, source: &str) -> bool {
        crate::rules::WAYS.iter().any(|way| way.source == source)
    }

    /// Takes a new message; its number.
    pub fn say(&mut self, message: Message) -> usize {
        self.entries.push(Entry { message, status: Status::Open, held: None, release: Release::None });
        self.entries.len() - 1
    }

    /// Takes an answer of the hub to a message, or to its release, while the journal is durable up to before
    /// `window.durable_next`.
    ///
    /// # Errors
    /// Where the answer can't be true.
    pub fn answer(&mut self, number: usize, answer: &Answer, released: bool, window: Window) -> Result<(), Violation> {
        let durable_next = window.durable_next;
        if self.entries[number].message.is_stock() {
            return self.answer_stock(number, answer, window);
        }
        if self.entries[number].message.is_order() {
            return self.answer_order(number, answer, window);
        }
        let entry = &mut self.entries[number];
        let message = &entry.message;
        let status = match answer {
            Ok(Outcome::Superseded { position: 0, count: 0 }) => {
                if !message.said().is_empty() || released {
                    return violated("answer", format!("{message} was answered as if it said nothing"));
                }
                Status::Nothing
            }
            Ok(Outcome::Applied { position, count, .. } | Outcome::Superseded { position, count }) => {
                let whole = matches!(message.content, Content::Changes(_)) || released;
                if !whole || *count as usize != message.said().len().max(1) {
                    return violated("answer", format!("{message} was answered with {answer:?}"));
                }
                self.acknowledged.insert(position + u64::from(*count) - 1, number);
                Status::Recorded
            }
            Ok(Outcome::Quarantined { position }) => {
                if !matches!(message.content, Content::Broken(_)) || released {
                    return violated("answer", format!("{message} was answered with {answer:?}"));
                }
                entry.held = Some(*position);
                self.acknowledged.insert(*position, number);
                Status::Recorded
            }
            Ok(Outcome::Duplicate { of }) => {
                if released {
                    return violated("answer", format!("the release of {message} was answered with {answer:?}"));
                }
                self.acknowledged.insert(*of, number);
                Status::Recorded
            }
            Ok(Outcome::Stock { .. }) => {
                return violated("answer", format!("{message} asks nothing of stock and was answered with {answer:?}"));
            }
            Err(refusal) => {
                if !message.way().is_api {
                    return violated(
                        "answer",
                        format!("{message} was refused, which its source does not ask for: {refusal}"),
                    );
                }
                Status::Refused
            }
        };
        if let Some((last, _)) = self.acknowledged.last_key_value()
            && *last >= durable_next
        {
            return violated(
                "durability",
                format!("{message} was answered with {answer:?} before record {last} was durable"),
            );
        }
        if released {
            entry.release = Release::Done;
        } else if entry.status != Status::Recorded {
            entry.status = status;
        }
        Ok(())
    }

    /// The same of a document about an order.
    fn answer_order(&mut self, number: usize, answer: &Answer, window: Window) -> Result<(), Violation> {
        let entry = &mut self.entries[number];
        let message = &entry.message;
        let (first, last) = match answer {
            Ok(Outcome::Applied { position, count, .. } | Outcome::Superseded { position, count }) => {
                (*position, position + u64::from(*count) - 1)
            }
            Ok(Outcome::Duplicate { of }) => (*of, *of),
            other => return violated("answer", format!("{message} was answered with {other:?}")),
        };
        if last >= window.durable_next {
            return violated("durability", format!("{message} was answered before record {last} was durable"));
        }
        let known = self.order_recorded.insert(number, first).filter(|known| *known != first);
        if known.is_some() {
            return violated("twice", format!("{message} was acknowledged with record {known:?}, then with {first}"));
        }
        entry.status = Status::Recorded;
        Ok(())
    }

    /// The same of a command to stock.
    fn answer_stock(&mut self, number: usize, answer: &Answer, window: Window) -> Result<(), Violation> {
        let entry = &mut self.entries[number];
        let message = &entry.message;
        let (recorded, status) = match answer {
            Ok(Outcome::Stock { position, count, .. }) if *count > 0 => {
                let last = position + u64::from(*count) - 1;
                if last >= window.durable_next {
                    let detail = format!("{message} was answered before record {last} was durable");
                    return violated("durability", detail);
                }
                (Ok(*position), Status::Recorded)
            }
            Ok(Outcome::Stock { answers, .. }) => match answers.as_slice() {
                [Ok(Stocked::Repeated | Stocked::Reservation { repeated: true, .. })] => {
                    (Err(Said::Repeated), Status::Nothing)
                }
                [Ok(Stocked::Quarantined(_))] => (Err(Said::Doubtful), Status::Nothing),
                _ => return violated("answer", format!("{message} was answered with {answer:?}")),
            },
            Ok(Outcome::Duplicate { of }) => (Ok(*of), Status::Recorded),
            Err(Refusal::Stock(refusal)) => (Err(Said::Refused(refusal.code())), Status::Refused),
            other => return violated("answer", format!("{message} was answered with {other:?}")),
        };
        match recorded {
            Ok(position) => {
                let known = self.stock_recorded.insert(number, position);
                if known.is_some_and(|known| known != position) {
                    let detail = format!("{message} was acknowledged with record {known:?}, then with {position}");
                    return violated("twice", detail);
                }
            }
            Err(said) => {
                let Window { from, durable_next: to, asked_us, told_us } = window;
                self.unrecorded.push(Unrecorded { message: number, said, from, to, asked_us, told_us });
            }
        }
        if entry.status != Status::Recorded {
            entry.status = status;
        }
        Ok(())
    }

    /// Takes what a reader was shown.
    ///
    /// # Errors
    /// Where it is older than what was shown before, or not durable.
    pub fn show(&mut self, id: &str, entity: Option<Entity>, durable_next: u64) -> Result<(), Violation> {
        let seen = entity.as_ref().map_or((0, 0), |e| (e.version, e.position));
        let before = self.latest.entry(id.to_owned()).or_default();
        if seen.0 < before.0 || seen.1 < before.1 {
            return violated("back", format!("{id} was shown at version and record {before:?}, then at {seen:?}"));
        }
        if seen.1 >= durable_next {
            return violated("durability", format!("{id} was shown at record {} before that was durable", seen.1));
        }
        *before = seen;
        self.shown.extend(entity.map(|entity| Shown { id: id.to_owned(), entity }));
        Ok(())
    }
}
