//! Whether a history is linearizable: whether each call can be given one moment between its beginning and its end, so
//! that all calls one after the other get the answers that they got.
//!
//! After Wing and Gong, with Lowe's memory of what was tried: a depth-first search over the calls that may come next.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::model::{Ask, Stock, Told};

/// One call, with the times of its beginning and its end. One without an answer ends when its connection is known to
/// be broken, which is after the death of the process that had it: until then it had its effect, or never.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) ask: Ask,
    pub(crate) began: i64,
    pub(crate) ended: i64,
    pub(crate) told: Option<Told>,
}

impl Call {
    /// Holds may end at this very moment.
    pub(crate) fn time(now: i64) -> Self {
        Self { ask: Ask::Time { now }, began: now, ended: now, told: Some(Told::Done) }
    }

    /// What the stock is after it, where it could then have got its answer; `had_effect` is for one without an answer.
    fn after(&self, stock: &Stock, had_effect: bool) -> Option<Stock> {
        // Without an effect whatever the stock is; that the end was over must be true.
        if self.told == Some(Told::TooLate) {
            let (Ask::Reserve { expires_at, .. } | Ask::Extend { expires_at, .. }) = self.ask else { return None };
            return (expires_at <= self.ended).then(|| stock.clone());
        }
        let mut next = stock.clone();
        if had_effect {
            let told = next.step(&self.ask);
            if self.told.as_ref().is_some_and(|answer| *answer != told) {
                return None;
            }
        }
        Some(next)
    }
}

/// More than any history here needs.
const STEPS_MAX: u64 = 2_000_000;

/// What the search has found.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is linearizable: after so many steps.
    Good { steps: u64 },
    /// It is not: no order gets beyond so many calls, and these are the calls that then wait.
    Bad { reached: usize, stuck: Vec<Call> },
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

/// One call that was given its moment.
struct Step {
    at: usize,
    before: Stock,
    /// What else could have been done in its place.
    others: Vec<(usize, bool)>,
}

/// The calls that have had their moment.
#[derive(Clone)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn turn(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

/// Checks the history of one SKU.
pub(crate) fn check(mut calls: Vec<Call>) -> Verdict {
    calls.sort_by_key(|call| (call.began, call.ended));
    let mut done = Done(vec![0; calls.len().div_ceil(64)]);
    let mut tried: HashSet<(u64, u64)> = HashSet::new();
    // What was done, in order.
    let mut path: Vec<Step> = Vec::new();
    let mut stock = Stock::default();
    let (mut reached, mut stuck, mut steps) = (0, Vec::new(), 0_u64);
    let mut complete = 0;
    let mut open = candidates(&calls, &done);
    loop {
        if complete == calls.len() {
            return Verdict::Good { steps };
        }
        if complete >= reached && stuck.is_empty() || complete > reached {
            reached = complete;
            stuck = open.iter().map(|(at, _)| calls[*at].clone()).collect();
        }
        let mut next = None;
        while let Some((at, had_effect)) = open.pop() {
            steps += 1;
            assert!(steps < STEPS_MAX, "undecided after {steps} steps, at {reached} calls; then {stuck:#?}");
            let Some(after) = calls[at].after(&stock, had_effect) else { continue };
            done.turn(at);
            if tried.insert(fingerprint(&done, &after)) {
                next = Some((at, after));
                break;
            }
            done.turn(at);
        }
        match next {
            Some((at, after)) => {
                complete += 1;
                let (before, others) = (std::mem::replace(&mut stock, after), std::mem::take(&mut open));
                path.push(Step { at, before, others });
                open = candidates(&calls, &done);
            }
            None => {
                let Some(Step { at, before, others }) = path.pop() else { return Verdict::Bad { reached, stuck } };
                done.turn(at);
                complete -= 1;
                (stock, open) = (before, others);
            }
        }
    }
}

/// The calls that may be next: those that began before the first of the others ended, each with whether it has an
/// effect. The last is to be tried first: the one that ended first, with an effect.
fn candidates(calls: &[Call], done: &Done) -> Vec<(usize, bool)> {
    let mut all = Vec::new();
    let mut first_end = i64::MAX;
    let begin = done.0.iter().position(|word| *word != u64::MAX).unwrap_or(0) * 64;
    for (at, call) in calls.iter().enumerate().skip(begin) {
        if done.has(at) {
            continue;
        }
        if call.began > first_end {
            break;
        }
        first_end = first_end.min(call.ended);
        if call.told.is_none() {
            all.push((at, false));
        }
        all.push((at, true));
    }
    all.sort_by_key(|(at, had_effect)| (std::cmp::Reverse(calls[*at].ended), *had_effect));
    all
}

/// 128 bits of what was done and what the stock is: enough for two not to meet by chance.
fn fingerprint(done: &Done, stock: &Stock) -> (u64, u64) {
    let of = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, &done.0, stock).hash(&mut hasher);
        hasher.finish()
    };
    (of(0), of(1))
}
