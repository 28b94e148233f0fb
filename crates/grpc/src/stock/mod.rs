//! `StockService`: commands and questions of stock. What is in a message becomes a command or a question of the core;
//! what comes back is told whole.

mod calls;
mod commands;
mod questions;
mod tell;
mod watch;

use lockstep_api::Api;

/// The service of stock.
#[derive(Clone)]
pub(crate) struct Stocks {
    pub(crate) api: Api,
}
