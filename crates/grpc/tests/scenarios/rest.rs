//! The way through HTTP.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lockstep_core::time::rfc3339;
use serde_json::{Value, json};

use crate::server::Server;
use crate::shop::{Moved, Refused, Told, Tried, Wanted, Way, ago};

/// A client of one server.
pub(crate) struct Http {
    base: String,
    key: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new(server: &Server) -> Self {
        Self::of(format!("http://{}", server.http), &server.key)
    }

    pub(crate) fn of(base: String, key: &str) -> Self {
        Self { base, key: key.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// A request with these headers: its status and answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Tried {
        let bearer = format!("Bearer {}", self.key);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        let (status, answer) = self.send(method, path, &headers, body).await;
        if status < 300 {
            return Ok(answer);
        }
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Err(Refused { code: text("code"), shortfalls: answer["shortfalls"].clone(), field: text("pointer") })
    }

    pub(crate) async fn get(&self, path: &str) -> Tried {
        self.call(Method::GET, path, &[], String::new()).await
    }
}

/// See the module.
pub(crate) struct Rest {
    http: Http,
    calls: AtomicU64,
}

impl Rest {
    /// Numbers its calls from here on.
    pub(crate) fn from(self, number: u64) -> Self {
        Self { calls: number.into(), ..self }
    }

    async fn write(&self, method: Method, path: &str, body: Value) -> Tried {
        let key = format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed));
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        self.http.call(method, path, &headers, body.to_string()).await
    }

    async fn post(&self, path: &str, body: Value) -> Tried {
        self.write(Method::POST, path, body).await
    }

    async fn put(&self, path: &str, body: Value) -> Tried {
        self.write(Method::PUT, path, body).await
    }
}

impl Way for Rest {
    async fn open(server: &Server) -> Self {
        Self { http: Http::new(server), calls: 0.into() }
    }

    async fn count(&self, (sku, location): (&str, &str), quantity: i64, as_of_us: i64) -> Tried {
        let body = json!({"basis": "on_hand", "quantity": quantity, "as_of": rfc3339(as_of_us)});
        self.put(&format!("/v1/stock/{sku}/{location}/count"), body).await
    }

    async fn moved(&self, moved: &Moved<'_>) -> Tried {
        let Moved { id, kind, sku, location, quantity } = moved;
        let body = json!({"movement": id, "kind": kind, "quantity": quantity});
        self.post(&format!("/v1/stock/{sku}/{location}/movements"), body).await
    }

    async fn sku(&self, sku: &str, scale: u32, components: &[(&str, i64)]) -> Tried {
        let one = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let components: Vec<Value> = components.iter().map(one).collect();
        self.put(&format!("/v1/items/{sku}"), json!({"qty_scale": scale, "components": components})).await
    }

    async fn channel(&self, channel: &str) -> Tried {
        self.put(&format!("/v1/channels/{channel}/policy"), json!({})).await
    }

    async fn reserve(&self, wanted: &Wanted) -> Tried {
        let one = |(sku, quantity): &(String, i64)| json!({"sku": sku, "quantity": quantity});
        let items: Vec<Value> = wanted.items.iter().map(one).collect();
        let body = json!({"id": wanted.id, "owner": wanted.id, "channel": "web", "items": items,
            "expires_at": rfc3339(wanted.expires_at_us), "allow_split": wanted.allow_split,
            "replaces": wanted.replaces});
        self.post("/v1/reservations", body).await
    }

    async fn commit(&self, id: &str) -> Tried {
        self.post(&format!("/v1/reservations/{id}/commit"), json!({})).await
    }

    async fn release(&self, id: &str) -> Tried {
        self.post(&format!("/v1/reservations/{id}/release"), json!({})).await
    }

    async fn ship(&self, id: &str, (sku, location): (&str, &str), quantity: i64, occurred_at_us: i64) -> Tried {
        let goods = json!([{"sku": sku, "location": location, "quantity": quantity}]);
        let body = json!({"goods": goods, "occurred_at": rfc3339(occurred_at_us)});
        self.post(&format!("/v1/reservations/{id}/consume"), body).await
    }

    async fn ship_as(&self, shipment: &str, id: &str, (sku, location): (&str, &str), quantity: i64) -> Tried {
        // Of one kind of goods two lines.
        let goods: Vec<Value> = [1, quantity - 1]
            .iter()
            .filter(|part| **part > 0)
            .map(|part| json!({"sku": sku, "location": location, "quantity": part}))
            .collect();
        self.post(&format!("/v1/reservations/{id}/consume"), json!({"goods": goods, "movement": shipment})).await
    }

    async fn reservation(&self, id: &str) -> Tried {
        self.http.get(&format!("/v1/reservations/{id}")).await
    }

    async fn terms(&self, sku: &str, location: &str) -> Tried {
        Ok(self.http.get(&format!("/v1/stock/{sku}/{location}")).await?["terms"].clone())
    }

    async fn available(&self, sku: &str) -> i64 {
        let answer = self.http.get(&format!("/v1/availability?sku={sku}&channel=web")).await.unwrap();
        answer["items"][0]["available"].as_i64().unwrap()
    }

    async fn tell(&self, told: &Told) -> Tried {
        let kind = told.subject.split_once('/').unwrap().0;
        let event = json!({"specversion": "1.0", "id": told.id, "source": "/erp", "type": format!("{kind}.changed"),
            "subject": told.subject, "time": ago(told.seconds_ago), "data": told.data});
        let headers = [("content-type", "application/cloudevents+json")];
        self.http.call(Method::POST, "/v1/events", &headers, event.to_string()).await
    }

    async fn events(&self, kind: &str) -> Vec<(String, Value)> {
        let page = self.http.get(&format!("/v1/events?kind={kind}&limit=1000")).await.unwrap();
        assert_eq!(page["at_end"], true);
        let one = |e: &Value| (e["type"].as_str().unwrap().to_owned(), e["data"]["document"].clone());
        page["items"].as_array().unwrap().iter().map(one).collect()
    }
}
