//! The way through gRPC. Its answers are put into the words of HTTP, so that a scenario is told once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_grpc::v1;
use lockstep_grpc::v1::event_service_client::EventServiceClient;
use lockstep_grpc::v1::stock_service_client::StockServiceClient;
use prost::Message;
use prost_types::{Any, Timestamp};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::server::Server;
use crate::shop::{Moved, Refused, Told, Tried, Wanted, Way, ago_us};

/// See the module.
pub(crate) struct Grpc {
    stock: StockServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    bearer: MetadataValue<tonic::metadata::Ascii>,
    calls: AtomicU64,
}

/// `google.rpc.Status`, which a status carries in its details.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
}

fn refused(status: &Status) -> Refused {
    let rpc = RpcStatus::decode(status.details()).unwrap();
    let of = |name: &str| rpc.details.iter().find(|any| any.type_url.ends_with(name)).map(|any| any.value.as_slice());
    let info = ErrorInfo::decode(of("ErrorInfo").unwrap()).unwrap();
    let bad = of("BadRequest").map(|bytes| BadRequest::decode(bytes).unwrap());
    let shortfalls = info.metadata.get("shortfalls").map(|json| serde_json::from_str(json).unwrap());
    Refused {
        code: info.reason.to_lowercase().replace('_', "-"),
        shortfalls: shortfalls.unwrap_or(Value::Null),
        field: bad.map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default(),
    }
}

fn at(at_us: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: at_us.div_euclid(1_000_000), nanos: (at_us.rem_euclid(1_000_000) * 1_000) as i32 })
}

impl Grpc {
    /// Numbers its calls from here on.
    pub(crate) fn from(self, number: u64) -> Self {
        Self { calls: number.into(), ..self }
    }

    fn key(&self) -> String {
        format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}

fn outcome(answer: Result<tonic::Response<v1::StockResponse>, Status>) -> Tried {
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    let word = match answer.outcome() {
        v1::StockOutcome::Applied => "applied",
        v1::StockOutcome::Repeated => "repeated",
        v1::StockOutcome::Ignored => "ignored",
        v1::StockOutcome::Unspecified => "unspecified",
    };
    Ok(json!({"outcome": word, "position": answer.position}))
}

fn answered(answer: Result<tonic::Response<v1::ReservationResponse>, Status>) -> Tried {
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    let mut told = reservation(answer.reservation.unwrap());
    if answer.repeated_call {
        told["repeated"] = json!(true);
    }
    Ok(told)
}

fn reservation(of: v1::Reservation) -> Value {
    let state = match of.state() {
        v1::ReservationState::Held => "held",
        v1::ReservationState::Committed => "committed",
        v1::ReservationState::Consumed => "consumed",
        v1::ReservationState::Released => "released",
        v1::ReservationState::Expired => "expired",
        v1::ReservationState::Unspecified => "unspecified",
    };
    let line = |of: v1::ReservationLine| {
        json!({"line": of.line, "item": of.item, "sku": of.sku, "location": of.location, "quantity": of.quantity,
            "open": of.open_quantity, "consumed": of.consumed_quantity, "released": of.released_quantity,
            "expired": of.expired_quantity})
    };
    let lines: Vec<Value> = of.lines.into_iter().map(line).collect();
    json!({"id": of.reservation_id, "owner": of.owner, "channel": of.channel, "state": state, "lines": lines})
}

impl Way for Grpc {
    async fn open(server: &Server) -> Self {
        let channel = Channel::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap();
        Self {
            stock: StockServiceClient::new(channel.clone()),
            events: EventServiceClient::new(channel),
            bearer: MetadataValue::try_from(format!("Bearer {}", server.key)).unwrap(),
            calls: 0.into(),
        }
    }

    async fn count(&self, (sku, location): (&str, &str), quantity: i64, as_of_us: i64) -> Tried {
        let message = v1::CountRequest {
            idempotency_key: self.key(),
            sku: sku.to_owned(),
            location: location.to_owned(),
            basis: v1::CountBasis::OnHand.into(),
            quantity,
            as_of: at(as_of_us),
            confirmed: false,
        };
        outcome(self.stock.clone().count(self.request(message)).await)
    }

    async fn moved(&self, moved: &Moved<'_>) -> Tried {
        let kind = match moved.kind {
            "receipt" => v1::MovementKind::Receipt,
            "return_restock" => v1::MovementKind::ReturnRestock,
            other => panic!("no scenario moves by {other}"),
        };
        let message = v1::MoveRequest {
            idempotency_key: self.key(),
            movement_id: moved.id.to_owned(),
            sku: moved.sku.to_owned(),
            location: moved.location.to_owned(),
            kind: kind.into(),
            quantity: moved.quantity,
            ..v1::MoveRequest::default()
        };
        outcome(self.stock.clone().r#move(self.request(message)).await)
    }

    async fn sku(&self, sku: &str, scale: u32, components: &[(&str, i64)]) -> Tried {
        let one = |(sku, quantity): &(&str, i64)| v1::KitComponent { sku: (*sku).to_owned(), quantity: *quantity };
        let components = components.iter().map(one).collect();
        let message = v1::SetSkuRequest { idempotency_key: self.key(), sku: sku.to_owned(), scale, components };
        outcome(self.stock.clone().set_sku(self.request(message)).await)
    }

    async fn channel(&self, channel: &str) -> Tried {
        let channel = channel.to_owned();
        let message = v1::SetPolicyRequest { idempotency_key: self.key(), channel, ..Default::default() };
        outcome(self.stock.clone().set_policy(self.request(message)).await)
    }

    async fn reserve(&self, wanted: &Wanted) -> Tried {
        let one = |(sku, quantity): &(String, i64)| v1::ReserveItem {
            sku: sku.clone(),
            quantity: *quantity,
            location: String::new(),
        };
        let message = v1::ReserveRequest {
            idempotency_key: self.key(),
            reservation_id: wanted.id.clone(),
            owner: wanted.id.clone(),
            channel: "web".to_owned(),
            expires_at: at(wanted.expires_at_us),
            items: wanted.items.iter().map(one).collect(),
            allow_split: wanted.allow_split,
            replaces_reservation_id: wanted.replaces.clone().unwrap_or_default(),
            ..v1::ReserveRequest::default()
        };
        answered(self.stock.clone().reserve(self.request(message)).await)
    }

    async fn commit(&self, id: &str) -> Tried {
        let message = v1::CommitRequest { idempotency_key: self.key(), reservation_id: id.to_owned() };
        answered(self.stock.clone().commit(self.request(message)).await)
    }

    async fn release(&self, id: &str) -> Tried {
        let reservation_id = id.to_owned();
        let message = v1::ReleaseRequest { idempotency_key: self.key(), reservation_id, lines: Vec::new() };
        answered(self.stock.clone().release(self.request(message)).await)
    }

    async fn ship(&self, id: &str, (sku, location): (&str, &str), quantity: i64, occurred_at_us: i64) -> Tried {
        let message = v1::ConsumeRequest {
            idempotency_key: self.key(),
            reservation_id: id.to_owned(),
            movement_id: self.key(),
            sku: sku.to_owned(),
            location: location.to_owned(),
            quantity,
            occurred_at: at(occurred_at_us),
        };
        outcome(self.stock.clone().consume(self.request(message)).await)
    }

    async fn ship_as(&self, shipment: &str, id: &str, (sku, location): (&str, &str), quantity: i64) -> Tried {
        let message = v1::ConsumeRequest {
            idempotency_key: self.key(),
            reservation_id: id.to_owned(),
            movement_id: shipment.to_owned(),
            sku: sku.to_owned(),
            location: location.to_owned(),
            quantity,
            occurred_at: None,
        };
        outcome(self.stock.clone().consume(self.request(message)).await)
    }

    async fn reservation(&self, id: &str) -> Tried {
        let message = v1::GetReservationRequest { reservation_id: id.to_owned() };
        let answer = self.stock.clone().get_reservation(self.request(message)).await;
        Ok(reservation(answer.map_err(|status| refused(&status))?.into_inner()))
    }

    async fn terms(&self, sku: &str, location: &str) -> Tried {
        let (sku, location) = (sku.to_owned(), location.to_owned());
        let message = v1::GetStockRequest { sku, location, channel: "web".to_owned(), holders_max: 10 };
        let answer = self.stock.clone().get_stock(self.request(message)).await;
        let of = answer.map_err(|status| refused(&status))?.into_inner();
        Ok(json!({"on_hand": of.on_hand_quantity, "held": of.held_quantity, "committed": of.committed_quantity,
            "available_to_fulfil": of.atf_quantity, "shortage": of.shortage_quantity}))
    }

    async fn available(&self, sku: &str) -> i64 {
        let (skus, channel) = (vec![sku.to_owned()], "web".to_owned());
        let message = v1::GetAvailabilityRequest { skus, channel, ..Default::default() };
        self.stock.clone().get_availability(self.request(message)).await.unwrap().into_inner().items[0].atp_quantity
    }

    async fn tell(&self, told: &Told) -> Tried {
        let kind = told.subject.split_once('/').unwrap().0;
        let event = v1::Event {
            id: told.id.clone(),
            source: "/erp".to_owned(),
            r#type: format!("{kind}.changed"),
            subject: told.subject.clone(),
            time: at(ago_us(told.seconds_ago)),
            data_json: told.data.to_string(),
            ..v1::Event::default()
        };
        let message = v1::PublishRequest { events: vec![event], ..Default::default() };
        let answer = self.events.clone().publish(self.request(message)).await.map_err(|status| refused(&status))?;
        let result = answer.into_inner().results.remove(0);
        let word = result.outcome().as_str_name().trim_start_matches("OUTCOME_").to_lowercase();
        Ok(json!({"outcome": word, "position": result.position}))
    }

    async fn events(&self, kind: &str) -> Vec<(String, Value)> {
        // A subscription has no end: what was there before this is all there was.
        let end = format!("END-{}", self.key());
        let data = json!({"amount": {"minor": 1, "currency": "EUR"}});
        let told = Told { id: end.clone(), subject: format!("price/{end}:retail:EUR"), seconds_ago: 0, data };
        self.tell(&told).await.unwrap();
        let message = v1::SubscribeRequest { after_position: Some(0), ..Default::default() };
        let mut stream = self.events.clone().subscribe(self.request(message)).await.unwrap().into_inner();
        let mut all = Vec::new();
        loop {
            for event in stream.message().await.unwrap().expect("the subscription stands").events {
                if told.subject == format!("{}/{}", event.kind, event.key) {
                    return all;
                }
                if event.kind == kind {
                    all.push((event.r#type, serde_json::from_str(&event.document_json).unwrap()));
                }
            }
        }
    }
}
