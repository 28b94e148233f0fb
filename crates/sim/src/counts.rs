//! What a run was made of: a simulation that never meets a fault proves nothing about it.

use serde_json::{Value, json};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// See the module.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// The names and numbers.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    /// Histories that were run to their end.
    seeds,
    /// Their operations.
    steps,
    /// Messages that sources had to send.
    inputs,
    /// Words that something is gone.
    deletions,
    /// Deleted documents of which something was said again that counted.
    recreations,
    /// Lists given whole.
    lists,
    /// Among them commands to stock.
    stock_commands,
    /// Among these those that had an effect.
    stock_applied,
    /// Answers to commands to stock that had none: refused, doubted, or so already.
    stock_unrecorded,
    /// Holds written down as expired.
    stock_expired,
    /// Lines promised of what was on order.
    stock_backordered,
    /// Times that one of them was served.
    stock_promoted,
    /// Times that an order was held against its document.
    order_checks,
    /// Times that it was short.
    orders_short,
    /// Times that one got its stock because that came.
    orders_retried,
    /// Inputs that reached a hub, repetitions among them.
    submitted,
    /// Answers that sources have got.
    acknowledged,
    /// Answers that there was nothing to record again.
    repetitions,
    /// Answers that it was an error of the sender.
    refused,
    /// Inputs that a hub could not take just then.
    unavailable,
    /// Records in the journals.
    records,
    /// Documents shown to readers.
    reads,
    /// Quarantined deliveries released.
    releases,
    /// Messages that were on their way twice.
    duplicates,
    /// Messages that overtook others.
    reorderings,
    /// Messages lost on their way.
    losses,
    /// Answers lost on their way back.
    answers_lost,
    /// Messages sent again.
    resends,
    /// Hubs gone in the middle of what they did.
    crashes,
    /// Among them in the middle of a write.
    crashes_writing,
    /// Among them with the state file as of earlier.
    power_cuts,
    /// Hubs closed when idle, and opened again.
    restarts,
    /// Times that the disk became full.
    disk_full,
    /// Syncs that failed.
    sync_failed,
    /// Torn ends cut off.
    torn_tails,
    /// Times that the state file could not be written.
    state_failed,
    /// Whole audits.
    audits,
    /// Promises broken.
    violations,
}

impl Counts {
    /// As JSON.
    pub fn json(&self) -> Value {
        self.rows().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
    }
}
