//! Scenario 5: a hold expires while the payment is authorized. The payment provider is a real server, which keeps every
//! call that it has had.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use http::Method;
use lockstep_core::rules::OrderPolicy;
use lockstep_hub::now_us;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::both_ways;
use crate::orders::open;
use crate::rest::Http;
use crate::shop::{Shop, Wanted, Way, code};

/// What the provider knows.
#[derive(Clone)]
struct Books {
    /// Each call, as `<what> <payment>`.
    calls: Arc<Mutex<Vec<String>>>,
    /// Whether it authorizes: until then the customer is at their bank.
    decided: watch::Receiver<bool>,
}

impl Books {
    fn write(&self, what: &str, payment: &str) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what} {payment}"));
    }
}

/// A payment provider that takes its time.
struct Provider {
    address: SocketAddr,
    books: Books,
    decides: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Provider {
    async fn start() -> Self {
        let (decides, decided) = watch::channel(false);
        let books = Books { calls: Arc::default(), decided };
        let authorize = |State(mut books): State<Books>, Path(payment): Path<String>| async move {
            books.write("authorize", &payment);
            books.decided.wait_for(|decided| *decided).await.expect("the provider runs");
            r#"{"status": "authorized"}"#
        };
        let end = |what: &'static str| {
            post(move |State(books): State<Books>, Path(payment): Path<String>| async move {
                books.write(what, &payment);
                r#"{"status": "done"}"#
            })
        };
        let routes = Router::new()
            .route("/payments/{payment}/authorize", post(authorize))
            .route("/payments/{payment}/capture", end("capture"))
            .route("/payments/{payment}/void", end("void"))
            .with_state(books.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, books, decides, serving }
    }

    /// Calls it as a shop does.
    async fn call(&self, payment: &str, what: &str) -> Value {
        let http = Http::of(format!("http://{}", self.address), "");
        let (status, answer) =
            http.send(Method::POST, &format!("/payments/{payment}/{what}"), &[], String::new()).await;
        assert_eq!(status, 200);
        answer
    }

    /// Has a payment authorized; the answer comes when the hold is over and `meanwhile` has happened.
    async fn authorize_late<W: Way>(&self, shop: &Shop<W>, hold: &str, meanwhile: impl Future<Output = ()>) {
        self.decides.send_replace(false);
        let late = async {
            shop.until(hold, "expired").await;
            meanwhile.await;
            self.decides.send_replace(true);
        };
        let (answer, ()) = tokio::join!(self.call(hold, "authorize"), late);
        assert_eq!(answer["status"], "authorized");
    }

    fn calls(&self) -> Vec<String> {
        self.books.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(self) {
        self.serving.abort();
    }
}

/// Somebody else takes the last one.
async fn take<W: Way>(shop: &Shop<W>, is_taken: bool) {
    if is_taken {
        shop.reserve("other", &[("A", 1)]).await.unwrap();
    }
}

/// A shop confirms an order whose payment is authorized, and ends the payment as the order then says.
async fn end_payment<W: Way>(shop: &Shop<W>, provider: &Provider, number: u32) -> Value {
    let (order, amount) = (format!("web:{number}"), json!({"currency": "EUR", "minor": 1999}));
    let paid = |kind: &str| json!({"order": order, "kind": kind, "amount": amount});
    shop.tell(&format!("payment/a{number}"), 2, paid("auth")).await.unwrap();
    shop.order(number, 2, "confirmed", "A", 1).await.unwrap();
    let holds = shop.document(&order).await["holds"].clone();
    let is_short = holds.as_array().is_some_and(|holds| holds.contains(&json!("stock")));
    let end = if is_short { "void" } else { "capture" };
    provider.call(&order, end).await;
    shop.tell(&format!("payment/b{number}"), 1, paid(end)).await.unwrap();
    if is_short {
        shop.order(number, 1, "cancelled", "A", 1).await.unwrap();
    }
    shop.document(&order).await
}

both_ways! {
    async fn scenario_05_a_hold_that_expired_during_payment_is_reserved_again_or_refused<W>() {
        let (shop, provider) = (Shop::<W>::open().await, Provider::start().await);
        shop.count("A", "berlin", 1, 60).await;
        for (id, is_taken) in [("free", false), ("gone", true)] {
            let wanted = Wanted { expires_at_us: now_us() + 300_000, ..Wanted::new(id, &[("A", 1)]) };
            shop.way.reserve(&wanted).await.unwrap();
            provider.authorize_late(&shop, id, take(&shop, is_taken)).await;
            let committed = shop.way.commit(id).await;
            if is_taken {
                assert_eq!(code(committed), "stock-short");
                provider.call(id, "void").await;
                assert_eq!(shop.state(id).await, "expired");
            } else {
                assert_eq!(committed.unwrap()["state"], "committed");
                provider.call(id, "capture").await;
                shop.way.release(id).await.unwrap();
            }
        }
        assert_eq!(provider.calls(), ["authorize free", "capture free", "authorize gone", "void gone"]);
        assert_eq!(shop.sums("A", "berlin").await, (1, 1, 0));
        provider.stop();
        shop.server.stop().await;
    }

    async fn scenario_05_an_order_whose_hold_expired_during_payment_is_never_captured_without_stock<W>() {
        let shop = open::<W>(OrderPolicy { hold_us: 200_000, ..OrderPolicy::default() }).await;
        let provider = Provider::start().await;
        shop.count("A", "berlin", 1, 60).await;
        for (number, is_taken) in [(1, false), (2, true)] {
            let id = format!("web:{number}");
            shop.order(number, 9, "pending", "A", 1).await.unwrap();
            provider.authorize_late(&shop, &id, take(&shop, is_taken)).await;
            let order = end_payment(&shop, &provider, number).await;
            let (payment, captured) = (&order["payment"]["state"], &order["payment"]["captured"]["minor"]);
            if is_taken {
                assert_eq!((payment, captured), (&json!("voided"), &json!(0)));
                assert_eq!((&order["lifecycle"], shop.state(&id).await), (&json!("cancelled"), "expired".to_owned()));
            } else {
                assert_eq!((payment, captured), (&json!("paid"), &json!(1999)));
                assert_eq!((&order["lifecycle"], shop.state(&id).await), (&json!("confirmed"), "committed".to_owned()));
                shop.order(number, 1, "cancelled", "A", 1).await.unwrap();
            }
            assert_eq!(shop.sums("A", "berlin").await, if is_taken { (1, 1, 0) } else { (1, 0, 1) });
        }
        let calls = ["authorize web:1", "capture web:1", "authorize web:2", "void web:2"];
        assert_eq!(provider.calls(), calls);
        provider.stop();
        shop.server.stop().await;
    }
}
