//! What a SKU at one location is, said once more and plainly: the model that a history is held against.

use std::collections::BTreeMap;

/// What was asked for, of one SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Reserve {
        id: u32,
        quantity: i64,
        expires_at: i64,
    },
    Commit {
        id: u32,
    },
    Release {
        id: u32,
    },
    Extend {
        id: u32,
        expires_at: i64,
    },
    Ship {
        id: u32,
        quantity: i64,
        at: i64,
    },
    Count {
        quantity: i64,
        as_of: i64,
    },
    Look,
    /// Nobody asks for it: the time at which holds may end.
    Time {
        now: i64,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    /// There is not enough: so much could be had.
    Short {
        available: i64,
    },
    /// The reservation is not where it would have to be.
    Conflict,
    /// The end that was asked for was over already.
    TooLate,
    Terms {
        on_hand: i64,
        held: i64,
        committed: i64,
        available: i64,
    },
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Held { until: i64 },
    Committed,
    Consumed { committed: bool },
    Released,
    Expired,
}

/// The stock of a SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stock {
    on_hand: i64,
    counted_at: i64,
    /// What was shipped after the last count, with its time.
    shipped: Vec<(i64, i64)>,
    /// Each reservation that was made, with its quantity.
    reservations: BTreeMap<u32, (i64, Life)>,
}

impl Stock {
    fn sums(&self) -> (i64, i64) {
        self.reservations.values().fold((0, 0), |(held, committed), (quantity, life)| match life {
            Life::Held { .. } => (held + quantity, committed),
            Life::Committed => (held, committed + quantity),
            _ => (held, committed),
        })
    }

    fn free(&self) -> i64 {
        let (held, committed) = self.sums();
        self.on_hand - held - committed
    }

    fn set(&mut self, id: u32, to: Life) {
        if let Some((_, life)) = self.reservations.get_mut(&id) {
            *life = to;
        }
    }

    /// Does what was asked for, and says what must be answered.
    pub(crate) fn step(&mut self, ask: &Ask) -> Told {
        let life = |stock: &Self, id: u32| stock.reservations.get(&id).copied();
        match *ask {
            Ask::Reserve { id, quantity, expires_at } => {
                let free = self.free();
                if quantity > free {
                    return Told::Short { available: free.max(0) };
                }
                self.reservations.insert(id, (quantity, Life::Held { until: expires_at }));
                Told::Done
            }
            Ask::Commit { id } => match life(self, id) {
                Some((_, Life::Held { .. })) => {
                    self.set(id, Life::Committed);
                    Told::Done
                }
                Some((quantity, Life::Expired)) => {
                    let free = self.free();
                    if quantity > free {
                        return Told::Short { available: free.max(0) };
                    }
                    self.set(id, Life::Committed);
                    Told::Done
                }
                Some((_, Life::Committed | Life::Consumed { committed: true })) => Told::Done,
                _ => Told::Conflict,
            },
            Ask::Release { id } => match life(self, id) {
                Some((_, Life::Held { .. } | Life::Committed | Life::Released)) => {
                    self.set(id, Life::Released);
                    Told::Done
                }
                _ => Told::Conflict,
            },
            Ask::Extend { id, expires_at } => match life(self, id) {
                Some((_, Life::Held { .. })) => {
                    self.set(id, Life::Held { until: expires_at });
                    Told::Done
                }
                _ => Told::Conflict,
            },
            Ask::Ship { id, quantity, at } => {
                // Goods that have left can't be refused, and a count after them has them.
                if at > self.counted_at {
                    self.on_hand -= quantity;
                    self.shipped.push((at, quantity));
                    self.shipped.sort_unstable();
                }
                match life(self, id) {
                    Some((_, Life::Held { .. })) => self.set(id, Life::Consumed { committed: false }),
                    Some((_, Life::Committed)) => self.set(id, Life::Consumed { committed: true }),
                    _ => {}
                }
                Told::Done
            }
            // Older than what is known: without an effect.
            Ask::Count { as_of, .. } if as_of < self.counted_at => Told::Done,
            Ask::Count { quantity, as_of } => {
                self.shipped.retain(|(at, _)| *at > as_of);
                self.on_hand = quantity - self.shipped.iter().map(|(_, quantity)| quantity).sum::<i64>();
                self.counted_at = as_of;
                Told::Done
            }
            Ask::Look => {
                let (held, committed) = self.sums();
                Told::Terms { on_hand: self.on_hand, held, committed, available: self.free() }
            }
            Ask::Time { now } => {
                for (_, life) in self.reservations.values_mut() {
                    if matches!(life, Life::Held { until } if *until <= now) {
                        *life = Life::Expired;
                    }
                }
                Told::Done
            }
        }
    }
}
