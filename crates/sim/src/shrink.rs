//! Shortens a failing history: leaves parts out, ever smaller ones, while the same promise is still broken
//! (Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).

use crate::generate::Setup;
use crate::op::{Content, Op};
use crate::run::{Failed, run};

/// A shortened history.
#[derive(Debug)]
pub struct Shrunk {
    /// What is left of it.
    pub ops: Vec<Op>,
    /// How it fails.
    pub failed: Failed,
    /// How many histories were tried.
    pub tried: usize,
}

/// Shortens `ops`, which fail as `failed`, with at most `tries_max` runs.
pub fn shrink(setup: &Setup, ops: &[Op], failed: Failed, tries_max: usize) -> Shrunk {
    let mut shrunk = Shrunk { ops: ops[..ops.len().min(failed.step + 1)].to_vec(), failed, tried: 0 };
    let mut part = shrunk.ops.len().div_ceil(2);
    while part > 0 && shrunk.tried < tries_max {
        let (before, mut at) = (shrunk.ops.len(), 0);
        while at < shrunk.ops.len() && shrunk.tried < tries_max {
            let mut fewer = shrunk.ops.clone();
            fewer.drain(at..(at + part).min(fewer.len()));
            // What moved up to this place is tried next.
            if !shrunk.accept(setup, fewer) {
                at += part;
            }
        }
        // One by one, until none can be left out any more.
        if part > 1 || shrunk.ops.len() == before {
            part /= 2;
        }
    }
    shrunk.say_less(setup, tries_max);
    shrunk
}

impl Shrunk {
    fn accept(&mut self, setup: &Setup, ops: Vec<Op>) -> bool {
        self.tried += 1;
        match run(setup, &ops) {
            Err(failed) if failed.violation.code == self.failed.violation.code => {
                self.ops = ops;
                self.ops.truncate(failed.step + 1);
                self.failed = failed;
                true
            }
            _ => false,
        }
    }

    /// Takes changes and fields out of the messages.
    fn say_less(&mut self, setup: &Setup, tries_max: usize) {
        let mut at = 0;
        while at < self.ops.len() {
            let mut number = 0;
            while self.tried < tries_max
                && let Some(fewer) = without(&self.ops[at], number)
            {
                let mut ops = self.ops.clone();
                ops[at] = fewer;
                if !self.accept(setup, ops) {
                    number += 1;
                }
                if at >= self.ops.len() {
                    return;
                }
            }
            at += 1;
        }
    }
}

/// A message without its change or field of that number; `None` where there are not so many.
fn without(op: &Op, number: usize) -> Option<Op> {
    let Op::Say(message) = op else { return None };
    let mut message = message.clone();
    let (Content::Changes(said) | Content::Broken(said)) = &mut message.content else { return None };
    let mut at = number;
    for change in 0..said.len() {
        if said.len() > 1 {
            if at == 0 {
                said.remove(change);
                return Some(Op::Say(message));
            }
            at -= 1;
        }
        let fields = &mut said[change].fields;
        if fields.len() > 1 {
            if at < fields.len() {
                fields.remove(at);
                return Some(Op::Say(message));
            }
            at -= fields.len();
        }
    }
    None
}
