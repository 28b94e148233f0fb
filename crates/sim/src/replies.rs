//! Who waits for the hub, and what its answers mean to them.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lockstep_core::{Entity, Outcome};
use lockstep_hub::{Answer, Page, QuarantineRow, Unavailable};
use std::sync::Arc;

use crate::ledger::{Release, Window};
use crate::violation::{Violation, violated};
use crate::world::World;

/// What the hub gives back.
pub(crate) enum Reply {
    Answers(Result<Vec<Answer>, Unavailable>),
    Entity(Result<Option<Arc<Entity>>, Unavailable>),
    Quarantine(Result<Page<QuarantineRow>, Unavailable>),
}

/// Whom it is for.
pub(crate) enum Asker {
    Sources {
        messages: Vec<usize>,
        gone: bool,
    },
    Reader {
        id: String,
    },
    /// Is the delivery still in quarantine? Then it is released.
    Operator {
        message: usize,
        held: u64,
    },
    Releaser {
        message: usize,
    },
}

/// Somebody who has asked and has no answer yet.
pub(crate) struct Waiting {
    pub(crate) asker: Asker,
    /// The next record and the time when it was asked.
    asked: (u64, i64),
    reply: Pin<Box<dyn Future<Output = Reply>>>,
}

impl World {
    pub(crate) fn wait(&mut self, asker: Asker, reply: impl Future<Output = Reply> + 'static) {
        let asked = (self.disk.next(), self.time.now_us());
        self.waiting.push(Waiting { asker, asked, reply: Box::pin(reply) });
    }

    pub(crate) fn lose_answer(&mut self, pick: usize) {
        let mut sources = self.waiting.iter_mut().filter_map(|waiting| match &mut waiting.asker {
            Asker::Sources { gone, .. } if !*gone => Some(gone),
            _ => None,
        });
        if let Some(gone) = sources.nth(pick % 4) {
            *gone = true;
            self.counts.answers_lost += 1;
        }
    }

    /// Whether nobody waits for the hub.
    pub(crate) fn is_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes what the hub has answered by now.
    pub(crate) fn take_replies(&mut self) -> Result<(), Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut still = Vec::new();
        let mut ready = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            match waiting.reply.as_mut().poll(&mut context) {
                Poll::Ready(reply) => ready.push((waiting.asker, waiting.asked, reply)),
                Poll::Pending => still.push(waiting),
            }
        }
        self.waiting = still;
        ready.into_iter().try_for_each(|(asker, asked, reply)| self.take_reply(asker, asked, reply))
    }

    fn take_reply(&mut self, asker: Asker, (from, asked_us): (u64, i64), reply: Reply) -> Result<(), Violation> {
        let durable_next = self.disk.next();
        let window = Window { from, durable_next, asked_us, told_us: self.time.now_us() };
        match (asker, reply) {
            (Asker::Sources { messages, .. }, Reply::Answers(Err(cause))) => {
                self.unavailable(&cause, messages.len())?;
            }
            (Asker::Sources { messages, gone }, Reply::Answers(Ok(answers))) => {
                if answers.len() != messages.len() {
                    return violated("answer", format!("{} answers to {} inputs", answers.len(), messages.len()));
                }
                for (message, answer) in messages.into_iter().zip(&answers).filter(|_| !gone) {
                    self.counts.acknowledged += 1;
                    self.counts.repetitions += u64::from(matches!(answer, Ok(Outcome::Duplicate { .. })));
                    self.counts.refused += u64::from(answer.is_err());
                    self.ledger.answer(message, answer, false, window)?;
                }
            }
            (Asker::Reader { id }, Reply::Entity(Ok(entity))) => {
                self.counts.reads += 1;
                self.ledger.show(&id, entity.map(Arc::unwrap_or_clone), durable_next)?;
            }
            (Asker::Reader { .. }, Reply::Entity(Err(cause))) => self.unavailable(&cause, 0)?,
            (Asker::Operator { message, held }, Reply::Quarantine(Ok(page))) => {
                if page.items.first().is_none_or(|row| row.position != held) {
                    self.ledger.entries[message].release = Release::Done;
                } else if let Some(hub) = self.handle() {
                    let input = self.ledger.entries[message].message.input(self.time.now_us(), Some(held));
                    let input = input.map_err(|e| Violation { code: "simulation", detail: e.to_string() })?;
                    let reply = async move { Reply::Answers(hub.submit(vec![input]).await) };
                    self.wait(Asker::Releaser { message }, reply);
                }
            }
            (Asker::Releaser { message }, Reply::Answers(Ok(answers))) => {
                self.counts.releases += 1;
                for answer in &answers {
                    self.ledger.answer(message, answer, true, window)?;
                }
            }
            (Asker::Operator { message, .. }, Reply::Quarantine(Err(cause)))
            | (Asker::Releaser { message }, Reply::Answers(Err(cause))) => {
                self.unavailable(&cause, 1)?;
                self.ledger.entries[message].release = Release::Wanted;
            }
            _ => return violated("simulation", "an answer to another question"),
        }
        Ok(())
    }

    fn unavailable(&mut self, cause: &Unavailable, inputs: usize) -> Result<(), Violation> {
        self.counts.unavailable += inputs as u64;
        match cause {
            Unavailable::Saturated { .. } | Unavailable::DiskFull | Unavailable::Poisoned(_) => Ok(()),
            Unavailable::TooLarge | Unavailable::ShuttingDown | Unavailable::Read(_) => {
                violated("unavailable", format!("nothing gives the hub a reason for this: {cause}"))
            }
        }
    }
}
