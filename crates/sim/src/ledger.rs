//! What the outside world knows: all messages, and what the hub has answered. Nothing here comes from the hub's
//! own data.

use std::collections::BTreeMap;

use lockstep_core::{Entity, Outcome};
use lockstep_hub::Answer;

use crate::op::{Content, Message};
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
    /// What readers have seen.
    pub shown: Vec<Shown>,
    latest: BTreeMap<String, (u64, u64)>,
}

impl Ledger {
    /// Takes a new message; its number.
    pub fn say(&mut self, message: Message) -> usize {
        self.entries.push(Entry { message, status: Status::Open, held: None, release: Release::None });
        self.entries.len() - 1
    }

    /// Takes an answer of the hub to a message, or to its release, while the journal is durable up to before
    /// `durable_next`.
    ///
    /// # Errors
    /// Where the answer can't be true.
    pub fn answer(
        &mut self,
        number: usize,
        answer: &Answer,
        released: bool,
        durable_next: u64,
    ) -> Result<(), Violation> {
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
