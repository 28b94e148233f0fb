//! The suite that every kind of destination passes.
//!
//! A kind's tests give the destination and a [`Peer`]: the system on the other side, the real thing or a server
//! that speaks its protocol on a real connection. [`check`] then makes the peer behave well and badly, and panics
//! where the destination does not keep to what [`Destination`] promises.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use lockstep_core::Event;
use lockstep_core::change::Field;
use lockstep_core::delivery::AttemptResult;
use lockstep_core::record::Fact;

use super::{Destination, Prepared, RESPONSE_HEAD_BYTES_MAX, Sent};

/// How the peer takes requests from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It takes them.
    Accept,
    /// It has a fault of its own, as HTTP says by 500.
    Fail,
    /// It asks to wait this long, as HTTP says by 429 with `Retry-After`.
    Throttle {
        /// How long.
        wait_ms: u64,
    },
    /// It understands and says no, as HTTP says by 422.
    Reject,
    /// It takes the request and cuts the connection without an answer.
    Cut,
    /// It takes the request and never answers.
    Silent,
}

/// What has reached the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The idempotency key that came with it.
    pub id: String,
    /// The body.
    pub body: Bytes,
}

/// The system on the other side of a destination under test.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Takes requests like this from now on.
    async fn behave(&self, behaviour: Behaviour);

    /// Everything that has reached it so far, in whatever order, accepted or not.
    async fn received(&self) -> Vec<Received>;

    /// Whether it can take requests like this. Not every protocol has a word for each: a file never asks to wait.
    fn can(&self, _behaviour: Behaviour) -> bool {
        true
    }

    /// Whether what was received is what was prepared: the same bytes, unless the kind writes them another way.
    fn is_same(&self, prepared: &Prepared, received: &Received) -> bool {
        received.id == prepared.id && received.body == prepared.body
    }
}

/// An event as the hub publishes it, with these fields as compact JSON.
pub fn event(position: u64, kind: &str, key: &str, fields: &[(&str, &str)]) -> Event {
    let mut fields: Vec<_> = fields.iter().map(|(name, json)| Field::new(*name, (*json).to_owned())).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let fact = Fact {
        source: "kit".to_owned(),
        system: "kit".to_owned(),
        delivery: format!("delivery-{position}"),
        of: 1,
        kind: kind.to_owned(),
        key: key.to_owned(),
        occurred_at_us: 1_790_000_000_000_000,
        changed: (0..fields.len() as u32).collect(),
        fields,
        version: position,
        event_type: format!("{kind}.changed"),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ..Fact::default()
    };
    Event { position, recorded_at_us: 1_790_000_000_000_500, fact: Box::new(fact), replay: None }
}

/// Checks a destination against its peer. The destination must let every event through, and its time limit
/// should be short, since a silent peer is waited for.
pub async fn check(destination: &dyn Destination, peer: &dyn Peer) {
    prepares_the_same(destination);
    one_delivery(destination, peer).await;
    each_result_has_its_class(destination, peer).await;
    many_at_once(destination, peer).await;
}

fn prepared(destination: &dyn Destination, position: u64) -> Prepared {
    let event = event(position, "order", &format!("kit:{position}"), &[("lifecycle", r#""confirmed""#)]);
    destination
        .prepare(&event)
        .expect("an ordinary event can be prepared")
        .expect("the destination under test must let every event through")
}

fn prepares_the_same(destination: &dyn Destination) {
    let (first, again) = (prepared(destination, 1), prepared(destination, 1));
    assert_eq!(first, again, "the same event must give the same request");
    assert_eq!(first.id, "1", "the id of a request is the event's id");
    assert_ne!(first.id, prepared(destination, 2).id, "two events must not share an id");
}

async fn reached(peer: &dyn Peer, prepared: &Prepared) -> usize {
    let same = |received: &&Received| peer.is_same(prepared, received);
    peer.received().await.iter().filter(same).count()
}

async fn one_delivery(destination: &dyn Destination, peer: &dyn Peer) {
    peer.behave(Behaviour::Accept).await;
    let request = prepared(destination, 10);
    let sent = destination.send(&request, 1).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    assert_eq!(reached(peer, &request).await, 1, "the peer must have id and body as prepared, once");
    let sent = destination.send(&request, 2).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    assert_eq!(reached(peer, &request).await, 2, "every attempt carries the same id");
}

async fn each_result_has_its_class(destination: &dyn Destination, peer: &dyn Peer) {
    let wait_ms = 2_000;
    let cases = [
        (Behaviour::Fail, AttemptResult::Transient),
        (Behaviour::Throttle { wait_ms }, AttemptResult::Throttled { retry_after_ms: Some(wait_ms) }),
        (Behaviour::Reject, AttemptResult::Rejected),
        // It may have taken what reached it.
        (Behaviour::Cut, AttemptResult::Unknown),
        (Behaviour::Silent, AttemptResult::Unknown),
    ];
    let possible = cases.into_iter().filter(|(behaviour, _)| peer.can(*behaviour));
    for (number, (behaviour, expected)) in possible.enumerate() {
        let request = prepared(destination, 20 + number as u64);
        peer.behave(behaviour).await;
        let sent = destination.send(&request, 1).await;
        assert_eq!(sent.result, expected, "{behaviour:?}: {sent:?}");
        is_explained(&sent);
        assert_eq!(reached(peer, &request).await, 1, "{behaviour:?}: a destination never tries again by itself");

        // What failed once works as soon as the peer does.
        peer.behave(Behaviour::Accept).await;
        let sent = destination.send(&request, 2).await;
        assert_eq!(sent.result, AttemptResult::Delivered, "after {behaviour:?}: {sent:?}");
    }
}

fn is_explained(sent: &Sent) {
    assert!(!sent.detail.is_empty(), "a failure must say what happened");
    assert!(!sent.detail.contains('\n'), "the detail is one sentence: {:?}", sent.detail);
    assert!(sent.response_head.len() <= RESPONSE_HEAD_BYTES_MAX, "only the head of a response is kept");
}

async fn many_at_once(destination: &dyn Destination, peer: &dyn Peer) {
    peer.behave(Behaviour::Accept).await;
    let requests: Vec<_> = (100..164).map(|position| prepared(destination, position)).collect();
    let all = join_all(requests.iter().map(|request| destination.send(request, 1))).await;
    for (request, sent) in requests.iter().zip(all) {
        assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
        assert_eq!(reached(peer, request).await, 1, "event {} must arrive once", request.id);
    }
}
