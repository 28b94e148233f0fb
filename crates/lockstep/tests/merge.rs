//! Who wins, and why: through a real hub's HTTP interface, with signed webhooks.

mod common;

#[path = "merge/documents.rs"]
mod documents;
#[path = "merge/law.rs"]
mod law;
#[path = "merge/lifecycle.rs"]
mod lifecycle;
#[path = "merge/order.rs"]
mod order;
#[path = "merge/refusals.rs"]
mod refusals;
