//! What is sold, and keeping sellers busy with it: the same for the hub over gRPC and for a database.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Where all of it lies.
pub(super) const LOCATION: &str = "berlin";
/// Who sells it.
pub(super) const CHANNEL: &str = "web";
/// Of each SKU; no benchmark sells as much.
pub(super) const ON_HAND: i64 = 1_000_000_000;
/// The lines of an order.
pub(super) const LINES: usize = 5;

/// The name of a SKU.
pub(super) fn sku(number: u64) -> String {
    format!("SKU-{number:07}")
}

/// What is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// One of the same SKU, always.
    Hot,
    /// One of any SKU.
    Spread,
    /// One of each of five SKUs, all or nothing.
    Orders,
}

impl Case {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Hot, Self::Spread, Self::Orders];

    /// Its name, as in the figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Spread => "spread",
            Self::Orders => "orders",
        }
    }

    /// Its name in a sentence.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Hot => "one hot SKU",
            Self::Spread => "spread over all SKUs",
            Self::Orders => "orders of 5 lines",
        }
    }

    /// The SKUs of the next reservation, each once.
    pub(super) fn next(self, random: &mut fastrand::Rng, of: u64, skus: &mut Vec<u64>) {
        skus.clear();
        match self {
            Self::Hot => skus.push(0),
            Self::Spread => skus.push(random.u64(..of)),
            Self::Orders => {
                while skus.len() < LINES {
                    let one = random.u64(..of);
                    if !skus.contains(&one) {
                        skus.push(one);
                    }
                }
            }
        }
    }
}

/// What a case was measured to be.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Rate {
    /// Answered as durable, a second.
    pub(super) reservations_per_s: f64,
    /// Half of the answers took at most this.
    pub(super) p50_ms: f64,
    /// 99 of 100 took at most this.
    pub(super) p99_ms: f64,
}

/// What the clients of a case were told that they have: also in the first tenth, which is not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Reservations.
    pub(super) reservations: u64,
    /// Their lines, of one unit each.
    pub(super) lines: u64,
}

/// What reserves, one after the other.
pub(super) trait Seller: Send + 'static {
    /// Reserves one of each; done when it is durable.
    fn reserve(&mut self, skus: &[u64]) -> impl Future<Output = Result<()>> + Send;
}

/// Keeps each seller busy for so long, after a tenth of it that is not measured. Every request was answered when it is
/// done, so that what was told is all that there is.
pub(super) async fn sell<S: Seller>(sellers: Vec<S>, case: Case, of: u64, length: Duration) -> Result<(Rate, Told)> {
    let (reservations, lines) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (told_reservations, told_lines) = (reservations.clone(), lines.clone());
    let ask = move |mut seller: S, mut random: fastrand::Rng| {
        let mut skus = Vec::with_capacity(LINES);
        let (reservations, lines) = (reservations.clone(), lines.clone());
        async move {
            case.next(&mut random, of, &mut skus);
            seller.reserve(&skus).await?;
            reservations.fetch_add(1, Ordering::Relaxed);
            lines.fetch_add(skus.len() as u64, Ordering::Relaxed);
            Ok((seller, random))
        }
    };
    let (answers, rate) = busy(sellers, length, ask).await?;
    let rate = Rate {
        reservations_per_s: rate,
        p50_ms: answers.value_at_quantile(0.5) as f64 / 1e3,
        p99_ms: answers.value_at_quantile(0.99) as f64 / 1e3,
    };
    let (reservations, lines) = (told_reservations.load(Ordering::Relaxed), told_lines.load(Ordering::Relaxed));
    Ok((rate, Told { reservations, lines }))
}

/// Has every client ask again and again. Gives how long the answers took (microseconds) and how many there were a
/// second.
pub(super) async fn busy<C, F>(
    clients: Vec<C>,
    length: Duration,
    ask: impl Fn(C, fastrand::Rng) -> F + Clone + Send + 'static,
) -> Result<(Histogram<u64>, f64)>
where
    C: Send + 'static,
    F: Future<Output = Result<(C, fastrand::Rng)>> + Send,
{
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now() + length / 10;
    for (lane, mut client) in (1..).zip(clients) {
        let ask = ask.clone();
        tasks.spawn(async move {
            let mut answers = histogram()?;
            let mut random = fastrand::Rng::with_seed(lane);
            while began.elapsed() < length {
                let asked = Instant::now();
                (client, random) = ask(client, random).await?;
                if asked >= began {
                    answers.saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            anyhow::Ok(answers)
        });
    }
    let mut all = histogram()?;
    while let Some(answers) = tasks.join_next().await {
        all.add(answers.context("a client's task failed")??).context("the histogram of answers")?;
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    Ok((all, rate))
}

/// Of microseconds, up to ten minutes.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 600_000_000, 3).context("the histogram of answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_five_skus_and_the_hot_one_is_always_the_same() {
        let (mut random, mut skus) = (fastrand::Rng::with_seed(1), Vec::new());
        for _ in 0..1_000 {
            Case::Orders.next(&mut random, 6, &mut skus);
            skus.sort_unstable();
            skus.dedup();
            assert_eq!(skus.len(), LINES);
            assert!(skus.iter().all(|sku| *sku < 6));
            Case::Hot.next(&mut random, 6, &mut skus);
            assert_eq!(skus, [0]);
        }
    }
}
