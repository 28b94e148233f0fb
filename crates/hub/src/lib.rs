//! The hub: one loop, one writer.
//!
//! It collects what is ready, loads what the decision needs, lets the pure core decide, journals the batch
//! and announces it; deciding a batch overlaps syncing the one before. State, cursors, queues of quarantine
//! and dead letters are folds of the journal, kept in memory where hot and in a state file behind it.
//!
//! The hub knows no concrete connector, no HTTP and no configuration file.

mod audit;
mod dead_letters;
pub mod delivery;
mod failing;
mod failure;
mod flush;
mod flushing;
mod handle;
mod importing;
mod journaler;
mod loading;
mod looper;
mod open;
mod options;
mod oversight;
mod reading;
mod replays;
mod state;
mod stats;
pub mod stepped;
mod stock;
mod tail;
mod tally;
mod time;
mod timers;
mod view;

pub use audit::DeliveryAudit;
pub use dead_letters::{BulkAction, DeadLetterFilter, ImpactOrder, Looked};
pub use failure::{OpenError, Unavailable};
pub use handle::{Answer, Enqueued, HubHandle, IncompleteFilter, Page, QuarantineFilter};
pub use importing::{ImportError, Imported, LetterEvent};
pub use open::Hub;
pub use options::HubOptions;
pub use oversight::{AlertError, AlertRow, AlertRule, Figure, FreshnessRow, OversightOptions, Silence};
pub use reading::{EventFilter, EventStream, ReadError, StreamItem};
pub use replays::{ReplayRefused, ReplayRequest, ReplayTally};
pub use state::rows::{DeadLetterRow, EntityRow, IncompleteEntity, IncompleteRow, QuarantineRow, RetryPlan};
pub use stats::{IncompleteFigure, Latency, Readiness, Stats, now_us};
pub use stock::invariants::Invariants;
pub use stock::standing::Standing;
pub use stock::verify::Verified;
pub use stock::{After, Ledger, LedgerEntry};
pub use tally::{DestinationTally, SourceTally, Tallies};
