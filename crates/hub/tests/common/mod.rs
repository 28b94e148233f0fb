//! What the hub's tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod recorder;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::alert::Timing;
use lockstep_core::delivery::AttemptResult;
use lockstep_core::{Change, Event, Field, Input, InputBody, Rules};
use lockstep_hub::{AlertRule, Figure, Hub, HubHandle, HubOptions, Tallies};

pub(crate) fn options(dir: &Path) -> HubOptions {
    HubOptions::new(dir, Rules::new())
}

pub(crate) fn open(dir: &Path) -> Hub {
    Hub::open(options(dir)).expect("the hub opens")
}

/// A stock document with one field that counts.
pub(crate) fn input(source: &str, delivery: &str, key: &str, at: i64, value: u64) -> Input {
    let fields = vec![Field::new("on_hand", value.to_string())];
    let change = Change::new("stock", key, 0, at, fields).expect("a well-formed change");
    Input {
        source: source.into(),
        system: source.into(),
        delivery: delivery.into(),
        payload_hash: value,
        reject_reuse: false,
        request_key: None,
        received_at_us: lockstep_hub::now_us(),
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    }
}

/// Waits for a state, with a deadline that only a hang reaches.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for sums.
pub(crate) async fn until_tallies(handle: &HubHandle, what: &str, reached: impl Fn(&Tallies) -> bool) -> Tallies {
    until(what, || reached(&handle.stats().tallies())).await;
    handle.stats().tallies()
}

/// A rule that always holds and escalates with every look: it shows that there was one.
pub(crate) fn looks() -> AlertRule {
    AlertRule {
        name: "looks".to_owned(),
        figure: Figure::Conservation,
        above: -1.0,
        of: Vec::new(),
        within_us: 1_000_000,
        owner: String::new(),
        to: Vec::new(),
        timing: Timing { holds_us: 0, calm_us: 0, escalate_us: (0..100_000).collect() },
    }
}

/// Waits for so many looks by [`looks`] that between them what was published has long been followed.
pub(crate) async fn looked(handle: &HubHandle) {
    let level = async || {
        let all = handle.alerts().await.unwrap();
        all.iter().find(|row| row.rule == "looks").map_or(0, |row| row.alert.level)
    };
    let (before, deadline) = (level().await, Instant::now() + Duration::from_secs(60));
    while level().await < before + 20 {
        assert!(Instant::now() < deadline, "nobody looks");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a destination says to an attempt.
pub(crate) type Script = Box<dyn Fn(&Prepared, u32) -> AttemptResult + Send + Sync>;

/// A destination that follows a script and notes what it has taken, in order.
pub(crate) struct Scripted {
    script: Script,
    taken: Mutex<Vec<(String, u64)>>,
    attempts: Mutex<HashMap<String, u32>>,
    marks: Mutex<BTreeSet<String>>,
}

impl Scripted {
    pub(crate) fn new(script: impl Fn(&Prepared, u32) -> AttemptResult + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            taken: Mutex::default(),
            attempts: Mutex::default(),
            marks: Mutex::default(),
        })
    }

    /// Key and position of everything taken, in order.
    pub(crate) fn taken(&self) -> Vec<(String, u64)> {
        self.taken.lock().unwrap().clone()
    }

    /// The replays of which something came.
    pub(crate) fn marks(&self) -> BTreeSet<String> {
        self.marks.lock().unwrap().clone()
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.lock().unwrap().values().sum()
    }
}

#[async_trait]
impl Destination for Scripted {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        if event.fact.key.starts_with("hidden") {
            return Ok(None);
        }
        assert!(!event.fact.key.starts_with("panic"), "as a fault in a mapping would");
        if event.fact.key.starts_with("poison") {
            return Err(PrepareError { message: "no such field".into(), at: Some("maps/x.vrl:3".into()) });
        }
        let body = bytes::Bytes::from(event.fact.key.clone());
        Ok(Some(Prepared {
            id: event.position.to_string(),
            body,
            content_type: "text/plain",
            trace: None,
            replay: event.replay.map(|id| id.to_string()),
        }))
    }

    async fn send(&self, prepared: &Prepared, attempt: u32) -> Sent {
        *self.attempts.lock().unwrap().entry(prepared.id.clone()).or_default() += 1;
        self.marks.lock().unwrap().extend(prepared.replay.clone());
        tokio::task::yield_now().await;
        let result = (self.script)(prepared, attempt);
        if result == AttemptResult::Delivered {
            let key = String::from_utf8(prepared.body.to_vec()).unwrap();
            self.taken.lock().unwrap().push((key, prepared.id.parse().unwrap()));
        }
        Sent { result, status: 200, detail: format!("{result:?}"), response_head: String::new(), duration_us: 1 }
    }
}
