//! The invariants of stock, checked while the hub runs: what a batch touched waits in line and is checked a little at a
//! time, so that a SKU with very many open lines costs a bounded part of the loop's time, later if need be. What is
//! found broken is told, and mended by nobody: the journal says what happened, `lockstep invariants check` says more.

use std::collections::BTreeMap;

use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::{StockBody, StockFact};
use lockstep_core::stock::{Stock, Violations};

/// How many locations and open lines a second are looked at: about one hundredth of the loop's time.
const LINES_A_SECOND: i64 = 200_000;
/// The most that is saved up, and so the most of one round, but for one SKU that is larger.
const LINES_AT_ONCE: i64 = 2_000;
/// Of how many SKUs and reservations violations are kept; the others are counted.
const BROKEN_MAX: usize = 1_000;

/// What is known to be broken. A SKU that is found whole again is no longer in it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// How many lines may still be looked at; below nothing after a large SKU.
    credit: i64,
    last_us: i64,
    /// By SKU or reservation.
    broken: BTreeMap<String, Violations>,
    /// Those that there was no room for.
    more: u64,
    changed: bool,
}

/// What is broken, as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invariants {
    /// How many violations of each invariant stand, by its number.
    pub violations: BTreeMap<u8, u64>,
    /// The first of each, in words.
    pub first: BTreeMap<u8, String>,
    /// SKUs that have changed and are not checked yet.
    pub waiting: u64,
    /// SKUs checked since the start.
    pub checked: u64,
}

impl Watch {
    /// A decision's records, which have just been folded: what it reserved must be there.
    pub(crate) fn decided(&mut self, stock: &mut Stock, records: &[Record]) {
        for (at, record) in records.iter().enumerate() {
            if let Some(Body::Stock(fact)) = &record.body
                && !is_moved_later(fact, &records[at + 1..])
            {
                let broken = stock.check_reserved(fact);
                if let Some(first) = broken.first() {
                    self.found(first.detail.clone(), broken);
                }
            }
        }
    }

    /// Checks what waits, as much as may be now. How many SKUs that were.
    pub(crate) fn check(&mut self, stock: &mut Stock, now_us: i64) -> u64 {
        let passed_us = now_us.saturating_sub(self.last_us).clamp(0, 1_000_000);
        // Rounds that are close together would earn nothing for ever: what is too little stays for the next one.
        let earned = passed_us * LINES_A_SECOND / 1_000_000;
        if earned > 0 {
            self.last_us = now_us;
            self.credit = (self.credit + earned).min(LINES_AT_ONCE);
        }
        let mut count = 0;
        while self.credit > 0
            && let Some(checked) = stock.check_next()
        {
            self.credit -= checked.size as i64;
            count += 1;
            if !checked.broken.is_empty() {
                self.found(checked.sku.to_string(), checked.broken);
            } else if !self.broken.is_empty() && self.broken.remove(checked.sku.as_str()).is_some() {
                tracing::info!(sku = checked.sku.as_str(), "the invariants hold again");
                self.changed = true;
            }
        }
        count
    }

    /// Keeps what is broken, and says so once.
    fn found(&mut self, what: String, broken: Violations) {
        if self.broken.get(&what) == Some(&broken) {
            return;
        }
        self.changed = true;
        if !self.broken.contains_key(&what) {
            if self.broken.len() >= BROKEN_MAX {
                self.more += 1;
                return;
            }
            for violation in &broken {
                tracing::error!(
                    invariant = violation.invariant,
                    "an invariant of stock is broken: {}",
                    violation.detail
                );
            }
        }
        self.broken.insert(what, broken);
    }

    /// What there is to tell, where that has changed.
    pub(crate) fn told(&mut self, told: &mut Invariants) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        (told.violations, told.first) = Default::default();
        for violation in self.broken.values().flatten() {
            *told.violations.entry(violation.invariant).or_default() += 1;
            told.first.entry(violation.invariant).or_insert_with(|| violation.detail.clone());
        }
        if self.more > 0 {
            // Which one they break is in nobody's memory; that there are more must not be lost.
            *told.violations.entry(0).or_default() += self.more;
            told.first.entry(0).or_insert_with(|| format!("more than {BROKEN_MAX} SKUs and reservations are broken"));
        }
    }
}

/// Whether goods move where a fact reserves, later in the same decision: those may bring a location below nothing.
fn is_moved_later(fact: &StockFact, later: &[Record]) -> bool {
    let Some(StockBody::Reservation(of)) = &fact.body else { return false };
    later.iter().any(|record| {
        let Some(Body::Stock(other)) = &record.body else { return false };
        let Some(StockBody::Moved(moved)) = &other.body else { return false };
        of.lines.iter().any(|line| line.sku == moved.sku && line.location == moved.location)
    })
}

impl Invariants {
    /// One sentence for each invariant that is broken.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        self.violations.iter().map(|(invariant, count)| {
            let first = self.first.get(invariant).map_or("", String::as_str);
            format!("invariant {invariant} of stock is broken {count} times, first: {first}")
        })
    }
}
