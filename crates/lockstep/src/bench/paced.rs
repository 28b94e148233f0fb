//! Changes at their moments, whether or not those before them are answered in time, each known by its trace: so it can be
//! told how long each took to each receiver, counted from its moment.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinHandle;

use super::client::Client;
use super::receiver::Received;

/// How often changes are sent, several at once.
pub(super) const TICKS_PER_S: u64 = 100;
/// How many entities they are of.
const ENTITIES: u64 = 10_000;

/// A stretch of changes: which ones, and when.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The first one's number.
    pub(super) first: u64,
    /// So many at each tick.
    pub(super) each: u64,
    /// So many ticks at most.
    pub(super) ticks: u64,
}

/// Changes that are being sent.
pub(super) struct Paced {
    task: JoinHandle<Result<u64>>,
    stop: Arc<AtomicBool>,
    plan: Plan,
    began: Instant,
}

/// Changes that were sent.
pub(super) struct Stretch {
    /// Their numbers.
    pub(super) numbers: Range<u64>,
    each: u64,
    began: Instant,
}

impl Paced {
    /// Begins in half a second.
    pub(super) async fn start(address: SocketAddr, key: &str, plan: Plan) -> Result<Self> {
        let mut client = Client::connect(address).await?;
        let (began, stop) = (Instant::now() + Duration::from_millis(500), Arc::new(AtomicBool::new(false)));
        let (key, of_task, stopped) = (key.to_owned(), plan.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut request = Vec::new();
            for tick in 0..of_task.ticks {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(tick);
                }
                write_request(&mut request, &key, of_task.first + tick * of_task.each, of_task.each);
                tokio::time::sleep_until((began + at(tick)).into()).await;
                loop {
                    match client.send(&request).await? {
                        200 => break,
                        429 => tokio::time::sleep(Duration::from_millis(1)).await,
                        status => bail!("the hub answered {status}: {}", client.answer()),
                    }
                }
            }
            Ok(of_task.ticks)
        });
        Ok(Self { task, stop, plan, began })
    }

    /// Whether it has ended by itself, or failed.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Sends no more.
    pub(super) async fn stop(self) -> Result<Stretch> {
        self.stop.store(true, Ordering::Relaxed);
        self.whole().await
    }

    /// Waits until all is sent.
    pub(super) async fn whole(self) -> Result<Stretch> {
        let ticks = self.task.await.context("sending changes failed")??;
        let Plan { first, each, .. } = self.plan;
        Ok(Stretch { numbers: first..first + ticks * each, each, began: self.began })
    }
}

impl Stretch {
    /// Waits until everybody has all of it, and gives how long each change took to each. `start` is what the receivers count from.
    pub(super) async fn latencies(&self, start: Instant, ends: &[Arc<Received>]) -> Result<Histogram<u64>> {
        let patience = Instant::now() + Duration::from_secs(60);
        // Also later changes are counted there, so each is looked for by its number.
        let has_all = |end: &Arc<Received>| self.numbers.clone().all(|number| end.at_us(number).is_some());
        while !ends.iter().all(has_all) {
            if Instant::now() > patience {
                bail!("not all changes were delivered");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut latencies = Histogram::<u64>::new(3)?;
        for end in ends {
            for number in self.numbers.clone() {
                let moment = self.began + at((number - self.numbers.start) / self.each);
                let due_us = (moment - start).as_micros() as u64;
                let at_us = end.at_us(number).context("a delivery is missing")?;
                latencies.record(at_us.saturating_sub(due_us).max(1))?;
            }
        }
        Ok(latencies)
    }
}

/// A quantile in milliseconds.
pub(super) fn ms(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1_000.0
}

fn at(tick: u64) -> Duration {
    Duration::from_micros(tick * 1_000_000 / TICKS_PER_S)
}

/// A request with changes, each known by its trace.
fn write_request(out: &mut Vec<u8>, key: &str, first: u64, each: u64) {
    let mut body = String::from("[");
    for number in first..first + each {
        let comma = if number == first { "" } else { "," };
        let sku = number % ENTITIES;
        let _ = write!(
            body,
            r#"{comma}{{"specversion":"1.0","id":"half-{number}","source":"/bench","type":"stock.counted","subject":"stock/half-{sku:05}@berlin","sequence":"{number}","traceparent":"00-{:032x}-00000000000000b7-01","data":{{"on_hand":{number},"basis":"on_hand","bin":"B-17-04-C","note":"cycle count by handheld 0042, second shift, zone north, verified"}}}}"#,
            number + 1
        );
    }
    body.push(']');
    out.clear();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: \
         application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}
