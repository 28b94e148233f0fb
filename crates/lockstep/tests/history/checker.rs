//! Whether a history is linearizable: whether each call can be given one moment between its beginning and its end, so
//! that all calls one after the other get the answers that they got.
//!
//! After Wing and Gong, with Lowe's memory of what was tried: a depth-first search over the calls that may come next.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::model::{Ask, Stock, Told};

/// One call, with the times of its beginning and its end. Without an answer it may have had its effect at any time
/// after its beginning, or never.
#[derive(Clone, Debug)]
pub struct Call {
    pub ask: Ask,
    pub began: i64,
    pub ended: Option<(i64, Told)>,
}

impl Call {
    /// Holds may end at this very moment.
    pub fn time(now: i64) -> Self {
        Self { ask: Ask::Time { now }, began: now, ended: Some((now, Told::Done)) }
    }

    /// When it ended.
    pub fn end(&self) -> i64 {
        self.ended.as_ref().map_or(i64::MAX, |(at, _)| *at)
    }

    /// What the stock is after it, where it could then have got its answer.
    fn after(&self, stock: &Stock) -> Option<Stock> {
        // Without an effect whatever the stock is; that the end was over must be true.
        if let Some((at, Told::TooLate)) = &self.ended {
            let (Ask::Reserve { expires_at, .. } | Ask::Extend { expires_at, .. }) = self.ask else { return None };
            return (expires_at <= *at).then(|| stock.clone());
        }
        let mut next = stock.clone();
        let told = next.step(&self.ask);
        match &self.ended {
            Some((_, answer)) if *answer != told => None,
            _ => Some(next),
        }
    }
}

/// What the search has found.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is linearizable: after so many steps.
    Good { steps: u64 },
    /// It is not: no order gets beyond so many of the answered calls, and these are the calls that then wait.
    Bad { reached: usize, stuck: Vec<Call> },
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
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
pub fn check(mut calls: Vec<Call>) -> Verdict {
    calls.sort_by_key(|call| (call.began, call.end()));
    let answered = calls.iter().filter(|call| call.ended.is_some()).count();
    let mut done = Done(vec![0; calls.len().div_ceil(64)]);
    let mut tried: HashSet<(u64, u64)> = HashSet::new();
    // What was done, in order, with the stock before it and what else could have been done in its place.
    let mut path: Vec<(usize, Stock, Vec<usize>)> = Vec::new();
    let mut stock = Stock::default();
    let (mut reached, mut stuck, mut steps) = (0, Vec::new(), 0_u64);
    let mut complete = 0;
    let mut open = candidates(&calls, &done);
    loop {
        if complete == answered {
            return Verdict::Good { steps };
        }
        if complete >= reached && stuck.is_empty() || complete > reached {
            reached = complete;
            stuck = open.iter().map(|at| calls[*at].clone()).collect();
        }
        let mut next = None;
        while let Some(at) = open.pop() {
            steps += 1;
            let Some(after) = calls[at].after(&stock) else { continue };
            done.turn(at);
            if tried.insert(fingerprint(&done, &after)) {
                next = Some((at, after));
                break;
            }
            done.turn(at);
        }
        match next {
            Some((at, after)) => {
                complete += usize::from(calls[at].ended.is_some());
                path.push((at, std::mem::replace(&mut stock, after), std::mem::take(&mut open)));
                open = candidates(&calls, &done);
            }
            None => {
                let Some((at, before, others)) = path.pop() else { return Verdict::Bad { reached, stuck } };
                done.turn(at);
                complete -= usize::from(calls[at].ended.is_some());
                (stock, open) = (before, others);
            }
        }
    }
}

/// The calls that may be next: those that began before the first of the others ended. The last is to be tried first:
/// the one that ended first, and those without an answer only where nothing else will do.
fn candidates(calls: &[Call], done: &Done) -> Vec<usize> {
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
        first_end = first_end.min(call.end());
        all.push(at);
    }
    all.sort_by_key(|at| std::cmp::Reverse((calls[*at].end(), *at)));
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
