//! One gRPC client: a connection of its own, spoken by the generated code over plain HTTP/2.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{self, Poll};

use anyhow::{Context, Result};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lockstep_grpc::v1;
use lockstep_grpc::v1::stock_service_client::StockServiceClient;
use prost_types::Timestamp;
use tokio::net::TcpStream;
use tonic::body::Body;

use super::work::{CHANNEL, LOCATION, ON_HAND, Seller, sku};

/// For how long a reservation of the benchmarks holds: none of them ends while one runs.
pub(super) const HOLD_S: i64 = 86_400;

/// How many SKUs one question is about.
const ASKED_AT_ONCE: usize = 100;

/// A connection, and the key that every call over it brings.
#[derive(Clone)]
pub(super) struct Link {
    send: http2::SendRequest<Body>,
    key: HeaderValue,
}

impl tower::Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<hyper::Result<()>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(header::AUTHORIZATION, self.key.clone());
        Box::pin(self.send.send_request(request))
    }
}

/// A client with a connection of its own.
pub(super) struct Caller {
    client: StockServiceClient<Link>,
    /// Tells the ids of this client from those of all others, also of other cases.
    name: String,
    number: u64,
}

impl Caller {
    /// Connects.
    pub(super) async fn connect(address: SocketAddr, key: &str, name: String) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("can't connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // It ends with its last sender; what breaks it is the error of the call under way.
        tokio::spawn(connection);
        let link = Link { send, key: HeaderValue::from_str(&format!("Bearer {key}"))? };
        let origin = format!("http://{address}").parse()?;
        Ok(Self { client: StockServiceClient::with_origin(link, origin), name, number: 0 })
    }

    fn next_key(&mut self) -> String {
        self.number += 1;
        format!("{}-{}", self.name, self.number)
    }

    /// The channel may sell.
    pub(super) async fn open_channel(&mut self) -> Result<()> {
        let idempotency_key = self.next_key();
        let policy = v1::SetPolicyRequest { idempotency_key, channel: CHANNEL.to_owned(), ..Default::default() };
        self.client.set_policy(policy).await?;
        Ok(())
    }

    /// Counts SKUs.
    pub(super) async fn count(&mut self, skus: impl Iterator<Item = u64>) -> Result<()> {
        for number in skus {
            let count = v1::CountRequest {
                idempotency_key: self.next_key(),
                sku: sku(number),
                location: LOCATION.to_owned(),
                basis: v1::CountBasis::OnHand.into(),
                quantity: ON_HAND,
                as_of: Some(in_seconds(0)),
                confirmed: false,
            };
            self.client.count(count).await?;
        }
        Ok(())
    }

    /// Asks how much is held of all SKUs, over all of their locations.
    pub(super) async fn held(&mut self, skus: u64) -> Result<u64> {
        let mut held = 0;
        for first in (0..skus).step_by(ASKED_AT_ONCE) {
            let asked = (first..skus).take(ASKED_AT_ONCE).map(sku).collect();
            let question =
                v1::GetAvailabilityRequest { skus: asked, channel: CHANNEL.to_owned(), ..Default::default() };
            let answer = self.client.get_availability(question).await?.into_inner();
            held += answer.items.iter().flat_map(|of| &of.locations).map(|at| at.held_quantity).sum::<i64>();
        }
        u64::try_from(held).context("less than nothing is held")
    }

    /// Asks what may be sold of a SKU; gives the number.
    pub(super) async fn availability(&mut self, number: u64) -> Result<i64> {
        let question =
            v1::GetAvailabilityRequest { skus: vec![sku(number)], channel: CHANNEL.to_owned(), ..Default::default() };
        let answer = self.client.get_availability(question).await?.into_inner();
        Ok(answer.items.first().context("an answer without the SKU")?.atp_quantity)
    }
}

impl Seller for Caller {
    async fn reserve(&mut self, skus: &[u64]) -> Result<()> {
        let id = self.next_key();
        let item = |number: &u64| v1::ReserveItem { sku: sku(*number), quantity: 1, location: String::new() };
        let request = v1::ReserveRequest {
            idempotency_key: id.clone(),
            owner: id.clone(),
            reservation_id: id,
            channel: CHANNEL.to_owned(),
            expires_at: Some(in_seconds(HOLD_S)),
            items: skus.iter().map(item).collect(),
            ..Default::default()
        };
        self.client.reserve(request).await?;
        Ok(())
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now_us = lockstep_hub::now_us();
    // Less than a billion: a remainder of microseconds in nanoseconds.
    let nanos = i32::try_from(now_us.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Timestamp { seconds: now_us.div_euclid(1_000_000) + seconds, nanos }
}
