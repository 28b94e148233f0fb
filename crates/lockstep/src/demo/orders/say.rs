//! The file's orders on their way to the shop's connections.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::file::{Invoices, OrdersError, Survey};
use super::shop::FileShop;
use crate::demo::measure::Counters;
use crate::demo::systems::sender::Outgoing;

/// Gives the file's invoices to the shop's connections, as fast as they take them.
pub(crate) fn say(
    path: &Path,
    survey: Survey,
    run: u64,
    (to_shop, counters): (&mpsc::Sender<Outgoing>, &Counters),
    stop: &AtomicBool,
) -> Result<(), OrdersError> {
    let mut invoices = Invoices::open(path, survey)?;
    let mut shop = FileShop::new(run);
    while !stop.load(Ordering::Relaxed)
        && let Some(invoice) = invoices.next()?
    {
        for outgoing in shop.webhooks(&invoice) {
            counters.offered.add(outgoing.changes.into());
            if to_shop.blocking_send(outgoing).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
