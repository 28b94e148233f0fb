//! One history, from the beginning to its verdict.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::counts::Counts;
use crate::generate::{Setup, history};
use crate::op::Op;
use crate::violation::Violation;
use crate::world::World;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A history in which nothing was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What it was made of.
    pub counts: Counts,
    /// A hash of the journal: the same seed makes the same one.
    pub digest: u64,
}

/// A history in which something was.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The number of the operation, from 0; one more than the last where everything had been healed.
    pub step: usize,
    /// What was broken.
    pub violation: Violation,
    /// What it was made of until then.
    pub counts: Box<Counts>,
}

/// Runs what follows from a seed.
///
/// # Errors
/// Where a promise is broken.
pub fn run_seed(seed: u64, steps: usize) -> Result<Passed, Failed> {
    let (setup, ops) = history(seed, steps);
    run(&setup, &ops)
}

/// Runs a history. A panic of the hub is a violation like every other.
///
/// # Errors
/// Where a promise is broken.
pub fn run(setup: &Setup, ops: &[Op]) -> Result<Passed, Failed> {
    let failed = |step, violation, mut counts: Counts| {
        counts.violations += 1;
        Failed { step, violation, counts: Box::new(counts) }
    };
    let mut world = match caught(|| World::new(setup.clone())) {
        Ok(world) => world,
        Err(violation) => return Err(failed(0, violation, Counts::default())),
    };
    for (step, op) in ops.iter().enumerate() {
        if let Err(violation) = caught(|| world.apply(op)) {
            return Err(failed(step, violation, world.counts));
        }
    }
    match caught(|| world.settle()) {
        Ok(()) => Ok(Passed { digest: world.disk.digest(), counts: world.counts }),
        Err(violation) => Err(failed(ops.len(), violation, world.counts)),
    }
}

/// After a panic the world is only looked at for its counts.
fn caught<T>(work: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(false);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let hooked = PANIC.with_borrow_mut(Option::take);
        Err(Violation { code: "panic", detail: hooked.or(text).unwrap_or_default() })
    })
}

/// Keeps the panics of histories off the screen, with the place where they happened.
pub fn keep_panics_quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(
        move |info| {
            if CATCHING.get() { PANIC.set(Some(info.to_string())) } else { loud(info) }
        },
    ));
}
