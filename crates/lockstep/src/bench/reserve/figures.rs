//! What `bench reserve` has measured, and how it is printed.

use super::alone::Alone;
use super::work::{Case, Rate};
use crate::bench::disk::RawLimit;
use crate::bench::{count, row};

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct ReserveFigures {
    /// Clients, each with a connection and one request at a time.
    pub(super) clients: u64,
    /// SKUs.
    pub(super) skus: u64,
    /// How long each case ran.
    pub(super) seconds: u64,
    /// One hot SKU.
    pub(super) hot: CaseFigures,
    /// Spread over all SKUs.
    pub(super) spread: CaseFigures,
    /// Orders of five lines: an order is one reservation.
    pub(super) orders: CaseFigures,
    /// The lines that the hub holds after all cases: as many as clients were told of.
    pub(super) held: u64,
    /// The hot SKU by all of them.
    pub(super) hot_by_spread: f64,
    /// The hub without a network.
    pub(super) alone: Option<Alone>,
    /// What the same disk does with a reservation of each client in an append.
    pub(super) raw: RawLimit,
    /// The hot SKU by the raw limit.
    pub(super) ratio_to_raw: f64,
    /// PostgreSQL in the same run.
    pub(super) postgres: Option<Compared>,
}

/// A case over gRPC.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct CaseFigures {
    /// How fast.
    #[serde(flatten)]
    pub(super) rate: Rate,
    /// CPU time of the hub for one; the rest of the cores is the generator's.
    pub(super) hub_cpu_us: f64,
}

/// PostgreSQL, with the same clients on the same machine and disk.
#[derive(Debug, serde::Serialize)]
pub(super) struct Compared {
    /// What it says it is.
    pub(super) server: String,
    /// The lines that it held, summed over the cases and ways: after each as many as clients were told of.
    pub(super) held: u64,
    /// One hot SKU.
    pub(super) hot: Ways,
    /// Spread over all SKUs.
    pub(super) spread: Ways,
    /// Orders of five lines.
    pub(super) orders: Ways,
}

/// One case in both ways.
#[derive(Debug, serde::Serialize)]
pub(super) struct Ways {
    /// One statement that takes the stock and writes the reservation, if there is enough.
    pub(super) statement: Rate,
    /// A transaction that reads the stock `FOR UPDATE`, takes it and writes the reservation.
    pub(super) for_update: Rate,
    /// The hub by the better of both.
    pub(super) hub_by_best: f64,
}

#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "made by what needs the client of PostgreSQL"))]
impl Compared {
    /// Both ways of each case, beside the hub's.
    pub(super) fn new(
        (server, held): (String, u64),
        [hot, spread, orders]: [[Rate; 2]; 3],
        hub: [&CaseFigures; 3],
    ) -> Self {
        let ways = |[statement, for_update]: [Rate; 2], hub: &CaseFigures| Ways {
            statement,
            for_update,
            hub_by_best: hub.rate.reservations_per_s / statement.reservations_per_s.max(for_update.reservations_per_s),
        };
        Self { server, held, hot: ways(hot, hub[0]), spread: ways(spread, hub[1]), orders: ways(orders, hub[2]) }
    }
}

impl ReserveFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for (case, of) in Case::ALL.into_iter().zip([&self.hot, &self.spread, &self.orders]) {
            lines.push(row(&format!("reservations/s, {}", case.title()), rate(&of.rate)));
            lines.push(row("  hub CPU for one", format!("{:.0} us", of.hub_cpu_us)));
        }
        lines.push(row("lines held, as clients were told", count(self.held as f64)));
        lines.push(row("hot by spread", format!("{:.2}", self.hot_by_spread)));
        if let Some(alone) = &self.alone {
            lines.push(row("the hub alone, one hot SKU", count(alone.hot_per_s)));
            lines.push(row("the hub alone, spread", count(alone.spread_per_s)));
            lines.push(row("the hub alone, orders", count(alone.orders_per_s)));
            lines.push(row("  records of one, spread", format!("{:.2}", alone.spread_records)));
            lines.push(row("  reservations in a batch, spread", count(alone.spread_batch)));
            lines.push(row("  raw limit of the disk, the same batches", count(alone.raw.records_per_s)));
        }
        lines.push(row("raw limit of the disk, one of each client", count(self.raw.records_per_s)));
        lines.push(row("hot by the raw limit", format!("{:.3}", self.ratio_to_raw)));
        if let Some(postgres) = &self.postgres {
            lines.push(row("PostgreSQL", &postgres.server));
            lines.push(row("  lines held, as clients were told", count(postgres.held as f64)));
            let all = [&postgres.hot, &postgres.spread, &postgres.orders];
            for (case, ways) in Case::ALL.into_iter().zip(all) {
                lines.push(row(&format!("  one statement, {}", case.title()), rate(&ways.statement)));
                lines.push(row(&format!("  FOR UPDATE, {}", case.title()), rate(&ways.for_update)));
                lines.push(row("  the hub by the better", format!("{:.1}", ways.hub_by_best)));
            }
        }
        lines
    }
}

fn rate(rate: &Rate) -> String {
    format!("{}  p50 {:.1} ms  p99 {:.1} ms", count(rate.reservations_per_s), rate.p50_ms, rate.p99_ms)
}
