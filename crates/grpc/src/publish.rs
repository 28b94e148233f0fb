//! `Publish`, and what the calls of the service have in common.

use std::sync::Arc;

use http::HeaderMap;
use lockstep_api::intake::{self, Request as Common};
use lockstep_api::{Api, Code, Key, Problem, trace_of};
use lockstep_core::Input;
use lockstep_hub::now_us;
use prost::Message;
use tonic::codec::Streaming;
use tonic::{Request, Response, Status};

use crate::convert::{message_event, result};
use crate::gate::caller;
use crate::publish_stream::{Acknowledgements, Publishing};
use crate::status::status;
use crate::subscribe::{self, Subscription};
use crate::v1::event_service_server::EventService;
use crate::{Events, v1};

/// Reading more than this is left to a thread for long work.
const LONG_BYTES: usize = 256 * 1024;

/// What is the same for all events of a request that came now.
pub(crate) fn common(headers: &HeaderMap, request_key: Option<(String, u64)>) -> Common {
    Common { request_key, received_at_us: now_us(), trace: trace_of(headers) }
}

/// The inputs that a request's events are to the hub, by the same functions as over HTTP.
pub(crate) async fn inputs(
    api: &Api,
    key: &Arc<Key>,
    events: Vec<v1::Event>,
    common: Common,
) -> Result<Vec<Input>, Problem> {
    let bytes: usize = events.iter().map(|event| event.data_json.len()).sum();
    if bytes <= LONG_BYTES {
        return read(api, key, &events, &common);
    }
    let (api, key) = (api.clone(), key.clone());
    let read = tokio::task::spawn_blocking(move || read(&api, &key, &events, &common)).await;
    read.map_err(|_| Problem::new(Code::ReadFailed, "the request could not be looked at"))?
}

fn read(api: &Api, key: &Key, events: &[v1::Event], common: &Common) -> Result<Vec<Input>, Problem> {
    let messages = events.iter().enumerate().map(|(at, event)| message_event(at, event));
    let messages: Vec<_> = messages.collect::<Result<_, _>>()?;
    let events = api.read_messages(messages.into_iter(), common)?;
    api.inputs(key, events, common)
}

/// The request's key with the hash of what it is the key of.
fn request_key(request: &v1::PublishRequest) -> Result<Option<(String, u64)>, Problem> {
    let key = &request.idempotency_key;
    if key.is_empty() {
        return Ok(None);
    }
    if !intake::is_request_key(key) {
        let detail = "`idempotency_key` must be 1 to 255 visible ASCII characters without quotes";
        return Err(Problem::parameter("idempotency_key", detail));
    }
    // The messages have no maps and no unknown fields are kept: equal events are equal bytes.
    let bytes: Vec<u8> = request.events.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    Ok(Some((key.clone(), lockstep_core::payload_hash(&bytes))))
}

impl Events {
    async fn take(&self, request: Request<v1::PublishRequest>) -> Result<v1::PublishResponse, Status> {
        let key = caller(request.extensions())?;
        let request_key = request_key(request.get_ref()).map_err(|problem| status(&problem))?;
        let common = common(request.metadata().as_ref(), request_key);
        let inputs = inputs(&self.api, &key, request.into_inner().events, common).await;
        let inputs = inputs.map_err(|problem| status(&problem))?;
        let answers = self.api.hub().submit(inputs).await.map_err(|why| status(&why.into()))?;
        match intake::refusal_of_all(&answers) {
            Some(refusal) => Err(status(&refusal.clone().into())),
            None => Ok(v1::PublishResponse { results: answers.into_iter().map(result).collect() }),
        }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    async fn publish(&self, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        self.take(request).await.map(Response::new)
    }

    type PublishStreamStream = Acknowledgements;

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Acknowledgements>, Status> {
        let headers = request.metadata().as_ref().clone();
        Ok(Response::new(Publishing::acknowledgements(self, headers, request.into_inner())))
    }

    type SubscribeStream = Subscription;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        subscribe::begin(&self.api, request.into_inner()).map(Response::new).map_err(|problem| status(&problem))
    }
}
