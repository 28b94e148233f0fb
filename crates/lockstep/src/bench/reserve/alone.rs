//! The hub alone, without a network: reservations given to it as fast as it takes them, durable.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockstep_core::stock::record::CountBasis;
use lockstep_core::stock::{Answer, Command, Count, Item, PolicyOf, Reserve};
use lockstep_core::{Input, InputBody, Outcome, Rules};
use lockstep_hub::{Hub, HubHandle, HubOptions, Unavailable, now_us};

use super::calls::HOLD_S;
use super::work::{CHANNEL, Case, LOCATION, ON_HAND, sku};
use crate::bench::disk::{RawLimit, raw_limit};

/// How many callers there are, and how many reservations each gives at once.
const CALLERS: u64 = 12;
const TOGETHER: u64 = 256;

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct Alone {
    /// Reservations, of each case.
    pub(super) reservations: u64,
    /// One hot SKU, a second.
    pub(super) hot_per_s: f64,
    /// Spread over all SKUs, a second.
    pub(super) spread_per_s: f64,
    /// Orders of five lines, a second.
    pub(super) orders_per_s: f64,
    /// Records of a reservation that is spread: itself, and what channels are told.
    pub(super) spread_records: f64,
    /// Reservations of a batch, spread.
    pub(super) spread_batch: f64,
    /// Bytes of a record, encoded.
    pub(super) record_bytes: f64,
    /// What the same disk does with the same bytes in the same batches.
    pub(super) raw: RawLimit,
}

/// Runs all cases in an empty folder.
pub(super) async fn run(dir: &Path, skus: u64, reservations: u64) -> Result<Alone> {
    let hub = Hub::open(HubOptions::new(dir.join("alone"), Rules::new())).context("the hub can't be opened")?;
    let handle = hub.handle();
    stock_up(&handle, skus).await?;
    let mut seconds = [0.0; Case::ALL.len()];
    let (mut batches, mut records) = ([0; Case::ALL.len()], [0; Case::ALL.len()]);
    for (at, case) in Case::ALL.into_iter().enumerate() {
        let before = (handle.stats().batches.load(Ordering::Relaxed), handle.bounds().next);
        let began = Instant::now();
        fill(&handle, case, skus, reservations).await?;
        seconds[at] = began.elapsed().as_secs_f64();
        batches[at] = handle.stats().batches.load(Ordering::Relaxed) - before.0;
        records[at] = handle.bounds().next - before.1;
    }
    let sample = handle.record(handle.bounds().next - 1).await?.context("the last record is missing")?;
    let record_bytes = sample.encoded_bytes() as f64;
    hub.shutdown().await;
    let spread_batch = reservations as f64 / batches[1].max(1) as f64;
    let spread_records = records[1] as f64 / reservations as f64;
    let raw = raw_limit(dir, spread_batch, (spread_batch * spread_records * record_bytes) as usize)?;
    let rate = |at: usize| reservations as f64 / seconds[at];
    let (hot_per_s, spread_per_s, orders_per_s) = (rate(0), rate(1), rate(2));
    Ok(Alone { reservations, hot_per_s, spread_per_s, orders_per_s, spread_records, spread_batch, record_bytes, raw })
}

/// Counts all SKUs and lets the channel sell.
pub(super) async fn stock_up(handle: &HubHandle, skus: u64) -> Result<()> {
    let now = now_us();
    let policy = Command::Policy(PolicyOf { channel: CHANNEL.into(), ..PolicyOf::default() });
    let count = |number| {
        Command::Count(Count {
            source: "wms".into(),
            sku: sku(number).into(),
            location: LOCATION.into(),
            basis: CountBasis::OnHand,
            quantity: ON_HAND,
            as_of_us: now,
            ..Count::default()
        })
    };
    let all: Vec<_> = std::iter::once(policy).chain((0..skus).map(count)).collect();
    for (part, commands) in (0..).zip(all.chunks(TOGETHER as usize)) {
        let inputs = (0..).zip(commands).map(|(at, command)| input(format!("stock-{part}-{at}"), command.clone(), now));
        give(handle, inputs.collect()).await?;
    }
    Ok(())
}

/// Makes so many reservations.
pub(super) async fn fill(handle: &HubHandle, case: Case, skus: u64, total: u64) -> Result<()> {
    let mut callers = tokio::task::JoinSet::new();
    for lane in 0..CALLERS {
        let handle = handle.clone();
        let mut left = total / CALLERS + u64::from(lane < total % CALLERS);
        callers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(lane + 1);
            let (mut number, mut wanted) = (0_u64, Vec::new());
            while left > 0 {
                let together = left.min(TOGETHER);
                let now = now_us();
                let inputs = (0..together).map(|_| {
                    number += 1;
                    case.next(&mut random, skus, &mut wanted);
                    let id = format!("{}-{lane}-{number}", case.name());
                    input(id.clone(), reserve(&id, &wanted, now), now)
                });
                give(&handle, inputs.collect()).await?;
                left -= together;
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = callers.join_next().await {
        result??;
    }
    Ok(())
}

fn reserve(id: &str, skus: &[u64], now_us: i64) -> Command {
    let item = |number: &u64| Item { sku: sku(*number).into(), quantity: 1, location: None };
    Command::Reserve(Reserve {
        id: id.into(),
        owner: id.into(),
        channel: CHANNEL.into(),
        expires_at_us: now_us + HOLD_S * 1_000_000,
        items: skus.iter().map(item).collect(),
        ..Reserve::default()
    })
}

/// An input as the API makes it of a request.
fn input(key: String, command: Command, now_us: i64) -> Input {
    Input {
        source: "api:bench".into(),
        system: "bench".into(),
        delivery: format!("stock|{key}"),
        payload_hash: 1,
        reject_reuse: true,
        request_key: None,
        received_at_us: now_us,
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        raw: None,
        body: InputBody::Stock(vec![command]),
        releases: None,
    }
}

/// Gives inputs to the hub until it has taken them. All of them must have an effect.
async fn give(handle: &HubHandle, inputs: Vec<Input>) -> Result<()> {
    loop {
        match handle.submit(inputs.clone()).await {
            Ok(answers) => {
                let applied = |answer: &_| match answer {
                    Ok(Outcome::Stock { answers, .. }) => {
                        matches!(answers.as_slice(), [Ok(Answer::Applied | Answer::Reservation { .. })])
                    }
                    _ => false,
                };
                match answers.iter().find(|answer| !applied(answer)) {
                    Some(other) => bail!("a command was answered {other:?}"),
                    None => return Ok(()),
                }
            }
            Err(Unavailable::Saturated { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => bail!("the hub refused a command: {error}"),
        }
    }
}
