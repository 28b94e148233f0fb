//! A short simulation; the long one is the command.

use sim::counts::Counts;
use sim::generate::history;
use sim::op::Op;
use sim::run::{run, run_seed};

#[test]
fn twenty_worlds_keep_every_promise_and_meet_every_fault() {
    let mut counts = Counts::default();
    for seed in 0..20 {
        match run_seed(seed, 300) {
            Ok(passed) => counts.add(&passed.counts),
            Err(failed) => panic!("seed {seed}, step {}: {}", failed.step, failed.violation),
        }
    }
    let missing: Vec<_> = counts.rows().into_iter().filter(|(name, n)| *n == 0 && *name != "violations").collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn a_seed_is_a_history() {
    for seed in [3, 4] {
        let first = run_seed(seed, 200).expect("it passes");
        assert_eq!(run_seed(seed, 200).expect("it passes again"), first);
    }
}

#[test]
fn the_state_is_flushed_under_load_after_the_disk_was_full_for_a_while() {
    let (mut setup, ops) = history(1, 100);
    (setup.flush_records_max, setup.flush_interval_ms) = (1_000, 60_000);
    let say = ops.into_iter().find(|op| matches!(op, Op::Say(_)));
    let arrive = Op::Arrive { pick: 0, count: 1 };
    let mut ops: Vec<Op> = say.into_iter().chain([arrive, Op::Loop, Op::Full, Op::Journal, Op::Loop]).collect();
    // The first probe fails, the second goes through.
    for _ in 0..2 {
        ops.extend([Op::Pass { ms: 600 }, Op::Loop, Op::Journal, Op::Journal, Op::Loop, Op::Space]);
    }
    let passed = run(&setup, &ops).map_err(|failed| failed.violation);
    assert_eq!(passed.map(|p| p.counts.disk_full), Ok(1));
}
