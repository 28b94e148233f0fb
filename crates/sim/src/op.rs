//! What can happen in a run. A history is a list of these; any part of it is a history too, so that a failing
//! one can be shortened: what does not make sense where it stands does nothing.

use std::fmt;

use bytes::Bytes;
use lockstep_core::stock::Command;
use lockstep_core::{Change, ChangeError, Field, Input, InputBody, QuarantineReason};

use crate::disk::Fate;
use crate::orders::say::Told;
use crate::rules::{WAYS, Way};

/// One change of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The entity's kind.
    pub kind: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The system's own number of the document; 0 where it has none.
    pub sequence: u64,
    /// The system's clock.
    pub at_us: i64,
    /// Whether it says that the entity is gone; then it has no fields.
    pub deletes: bool,
    /// Fields and values as JSON, sorted by name; items of a list under their paths.
    pub fields: Vec<(&'static str, &'static str)>,
    /// The version that the writer believes current.
    pub expected: Option<u64>,
}

impl Said {
    /// The entity's name.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.key)
    }
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Changes; none is understood and proposes nothing.
    Changes(Vec<Said>),
    /// Not understood at first; released by an operator it has the changes.
    Broken(Vec<Said>),
    /// A command to stock.
    Stock(Box<Command>),
    /// A document about an order that reserves.
    Order(Box<Told>),
}

/// Something that a source has to say, once.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The number of its way in.
    pub way: usize,
    /// Its delivery id.
    pub delivery: String,
    /// The hash of its payload: two messages never have the same.
    pub payload: u64,
    /// The key of its request, with the payload's hash.
    pub request_key: Option<String>,
    /// What it carries.
    pub content: Content,
}

impl Message {
    /// Its way in.
    pub fn way(&self) -> &'static Way {
        &WAYS[self.way]
    }

    /// What it says, understood at once or later.
    pub fn said(&self) -> &[Said] {
        match &self.content {
            Content::Changes(said) | Content::Broken(said) => said,
            Content::Stock(_) | Content::Order(_) => &[],
        }
    }

    /// Whether it is a command to stock.
    pub fn is_stock(&self) -> bool {
        matches!(self.content, Content::Stock(_))
    }

    /// Whether it is about an order that reserves.
    pub fn is_order(&self) -> bool {
        matches!(self.content, Content::Order(_))
    }

    /// Whether its answer depends on what the hub knows by then.
    pub fn is_conditional(&self) -> bool {
        self.said().iter().any(|said| said.expected.is_some())
    }

    /// The input of it as intake makes it; with `releases`, as an operator sends it again.
    ///
    /// # Errors
    /// Where a change is not well-formed.
    pub fn input(&self, received_at_us: i64, releases: Option<u64>) -> Result<Input, ChangeError> {
        let way = self.way();
        let body = match &self.content {
            Content::Broken(_) if releases.is_none() => InputBody::Quarantine(QuarantineReason {
                code: "mapping-failed".into(),
                detail: "the simulation says so".into(),
                at: String::new(),
            }),
            Content::Stock(command) => InputBody::Stock(vec![(**command).clone()]),
            Content::Order(told) => InputBody::Changes(vec![told.change()?]),
            Content::Changes(said) | Content::Broken(said) => {
                InputBody::Changes(said.iter().map(change).collect::<Result<_, _>>()?)
            }
        };
        Ok(Input {
            source: way.source.into(),
            system: way.system.into(),
            delivery: self.delivery.clone(),
            payload_hash: self.payload,
            reject_reuse: way.is_api,
            request_key: self.request_key.clone().map(|key| (key, self.payload)),
            received_at_us,
            trace: None,
            raw: None,
            body,
            releases,
        })
    }
}

fn change(said: &Said) -> Result<Change, ChangeError> {
    let field = |(name, json): &(&'static str, &'static str)| Field::new(*name, Bytes::from_static(json.as_bytes()));
    let change = if said.deletes {
        Change::deletion(said.kind, said.key, said.sequence, said.at_us)?
    } else {
        let fields = said.fields.iter().map(field).collect();
        Change::new(said.kind, said.key, said.sequence, said.at_us, fields)?
    };
    Ok(Change { expected_version: said.expected, ..change })
}

/// Something that happens. A `pick` chooses among what there is by then.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A source has something to say: it is on its way from now on.
    Say(Box<Message>),
    /// Messages on their way reach the hub in one submission.
    Arrive {
        /// The first of them; the others are those that have been on their way longest.
        pick: usize,
        /// How many.
        count: usize,
    },
    /// A message on its way is there twice.
    Duplicate {
        /// Which.
        pick: usize,
    },
    /// A message on its way is gone.
    Lose {
        /// Which.
        pick: usize,
    },
    /// The next answers go to a source that has hung up.
    LoseAnswer {
        /// Which submission.
        pick: usize,
    },
    /// Sources send again what was not acknowledged and is not on its way.
    SendAgain,
    /// The loop does one round.
    Loop,
    /// The journaler takes up one batch.
    Journal,
    /// The flusher writes a part of its round.
    Flush,
    /// Time passes.
    Pass {
        /// How much.
        ms: u64,
    },
    /// A reader asks for an entity.
    Read {
        /// Which.
        pick: usize,
    },
    /// An operator releases a quarantined delivery.
    Release {
        /// Which.
        pick: usize,
    },
    /// The operating system has written the state file back: a power cut loses what comes after.
    WriteBack,
    /// The hub is gone in the middle of what it does, and opened again.
    Crash {
        /// Whether the whole machine is: the state file is as it was last written back.
        power: bool,
        /// Whether a batch is being written: what is left of it.
        writing: Option<Fate>,
    },
    /// The hub is closed when it is idle, and opened again.
    Restart,
    /// The journal's disk is full.
    Full,
    /// There is space again.
    Space,
    /// The next sync of the journal fails.
    SyncFails(Fate),
    /// The state file can't be written.
    StateFails,
    /// It can again.
    StateHeals,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} #{} at {} {{", self.kind, self.key, self.sequence, self.at_us)?;
        if self.deletes {
            write!(f, "gone")?;
        }
        for (at, (name, json)) in self.fields.iter().enumerate() {
            write!(f, "{}{name}: {json}", if at == 0 { "" } else { ", " })?;
        }
        write!(f, "}}")?;
        self.expected.map_or(Ok(()), |version| write!(f, " if version {version}"))
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (payload {})", self.way().source, self.delivery, self.payload)?;
        if let Some(key) = &self.request_key {
            write!(f, " key {key}")?;
        }
        if matches!(self.content, Content::Broken(_)) {
            write!(f, " broken")?;
        }
        match &self.content {
            Content::Stock(command) => write!(f, " {command:?}")?,
            Content::Order(told) => write!(f, " {told:?}")?,
            Content::Changes(_) | Content::Broken(_) => {}
        }
        self.said().iter().try_for_each(|said| write!(f, " {said}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(message) => write!(f, "say {message}"),
            other => write!(f, "{}", format!("{other:?}").to_lowercase()),
        }
    }
}
