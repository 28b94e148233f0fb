//! A destination that notes entities and what they said, and answers by what it is sent.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::delivery::AttemptResult;
use lockstep_core::{Change, Event, Field, Input, InputBody};

/// A document of any kind.
pub(crate) fn said(delivery: &str, kind: &str, key: &str, fields: &[(&str, &str)]) -> Input {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, (*json).to_owned())).collect();
    let number = xxhash_rust::xxh3::xxh3_64(delivery.as_bytes());
    let change = Change::new(kind, key, 0, lockstep_hub::now_us(), fields).expect("a well-formed change");
    Input { payload_hash: number, body: InputBody::Changes(vec![change]), ..super::input("pim", delivery, key, 1, 1) }
}

type Answers = Box<dyn Fn(&str) -> AttemptResult + Send + Sync>;

/// See the module. Documents with `"hidden": true` are kept back.
pub(crate) struct Recorder {
    answers: Answers,
    /// Entity and position.
    taken: Mutex<Vec<(String, u64)>>,
}

impl Recorder {
    /// One that answers so to each entity (`product/web:1`).
    pub(crate) fn new(answers: impl Fn(&str) -> AttemptResult + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { answers: Box::new(answers), taken: Mutex::default() })
    }

    /// What it has taken, in order.
    pub(crate) fn taken(&self) -> Vec<(String, u64)> {
        self.taken.lock().unwrap().clone()
    }

    /// The entities that it has taken something of, in order.
    pub(crate) fn entities(&self) -> Vec<String> {
        self.taken().into_iter().map(|(entity, _)| entity).collect()
    }
}

#[async_trait]
impl Destination for Recorder {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let body = format!("{}/{}", event.fact.kind, event.fact.key).into();
        let (id, content_type) = (event.position.to_string(), "text/plain");
        let goes = event.value_at("hidden").is_none_or(|hidden| hidden != true);
        Ok(goes.then_some(Prepared { id, body, content_type, trace: None, replay: None }))
    }

    async fn send(&self, prepared: &Prepared, _attempt: u32) -> Sent {
        tokio::task::yield_now().await;
        let entity = String::from_utf8(prepared.body.to_vec()).unwrap();
        let result = (self.answers)(&entity);
        if result == AttemptResult::Delivered {
            self.taken.lock().unwrap().push((entity, prepared.id.parse().unwrap()));
        }
        Sent { result, status: 200, detail: format!("{result:?}"), response_head: String::new(), duration_us: 1 }
    }
}
