//! A short simulation; the long one is the command.

use sim::counts::Counts;
use sim::run::run_seed;

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
