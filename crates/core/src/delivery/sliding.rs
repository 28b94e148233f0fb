//! Counts over the last while, in steps: what a share is taken of.

/// How many steps a window has.
const STEPS: i64 = 10;

/// `N` counters over a window that moves on in ten steps: so they are of the last 90 to 100 % of it.
#[derive(Clone, Debug)]
pub(super) struct Sliding<const N: usize> {
    step_us: i64,
    /// The newest step, in steps since 1970.
    newest: i64,
    slots: [[u32; N]; STEPS as usize],
}

impl<const N: usize> Sliding<N> {
    pub(super) fn new(window_ms: u64) -> Self {
        let step_us = i64::try_from(window_ms).unwrap_or(i64::MAX).saturating_mul(1_000) / STEPS;
        Self { step_us: step_us.max(1), newest: 0, slots: [[0; N]; STEPS as usize] }
    }

    pub(super) fn clear(&mut self) {
        self.slots = [[0; N]; STEPS as usize];
    }

    /// Lets go of what is too old. A clock that goes back stays in the newest step.
    fn advance(&mut self, now_us: i64) {
        let step = now_us.div_euclid(self.step_us);
        if step - self.newest >= STEPS {
            self.clear();
        } else {
            for gone in self.newest + 1..=step {
                self.slots[gone.rem_euclid(STEPS) as usize] = [0; N];
            }
        }
        self.newest = self.newest.max(step);
    }

    pub(super) fn add(&mut self, counters: [u32; N], now_us: i64) {
        self.advance(now_us);
        let slot = &mut self.slots[self.newest.rem_euclid(STEPS) as usize];
        for (count, more) in slot.iter_mut().zip(counters) {
            *count = count.saturating_add(more);
        }
    }

    pub(super) fn sums(&mut self, now_us: i64) -> [u64; N] {
        self.advance(now_us);
        let mut sums = [0; N];
        for slot in &self.slots {
            for (sum, count) in sums.iter_mut().zip(slot) {
                *sum += u64::from(*count);
            }
        }
        sums
    }

    /// When the oldest step is let go of.
    pub(super) fn next_step_us(&self, now_us: i64) -> i64 {
        let step = now_us.div_euclid(self.step_us).max(self.newest);
        (step + 1).saturating_mul(self.step_us).max(now_us.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_let_go_of() {
        let mut counts = Sliding::<2>::new(10);
        counts.add([1, 5], 500);
        counts.add([1, 0], 9_900);
        assert_eq!(counts.sums(9_999), [2, 5]);
        assert_eq!(counts.next_step_us(9_999), 10_000);
        assert_eq!(counts.sums(10_000), [1, 0]);
        counts.add([1, 1], 4_000);
        assert_eq!(counts.sums(10_000), [2, 1], "a clock that goes back loses nothing");
        assert_eq!(counts.sums(1_000_000), [0, 0]);
    }
}
