//! `StockService`.

use std::collections::BTreeMap;

use lockstep_api::Scope;
use lockstep_grpc::v1::stock_service_client::StockServiceClient;
use lockstep_grpc::v1::{
    CommitRequest, ConsumeRequest, CountBasis, CountRequest, ExtendRequest, GetAvailabilityRequest,
    GetReservationRequest, GetStockRequest, ListLedgerRequest, LocationStock, ReleaseRequest, ReservationResponse,
    ReservationState, ReserveItem, ReserveRequest, SetPolicyRequest, StockOutcome, TransferRequest,
    WatchAvailabilityRequest, WatchAvailabilityResponse,
};
use prost_types::Timestamp;
use tonic::codec::Streaming;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{GatedJournal, Server, Setup, expect, with_key};

fn now_s() -> i64 {
    lockstep_hub::now_us() / 1_000_000
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

/// A client of the service whose writes each have a key of their own.
struct Shop<'a> {
    server: &'a Server,
    client: StockServiceClient<Channel>,
    calls: u32,
}

impl<'a> Shop<'a> {
    /// With a channel `web`, and so many mugs in Berlin and Hamburg.
    async fn with(server: &'a Server, berlin: i64, hamburg: i64) -> Self {
        let mut shop = Self { server, client: server.stock().await, calls: 0 };
        let policy =
            SetPolicyRequest { idempotency_key: "p".to_owned(), channel: "web".to_owned(), ..Default::default() };
        shop.client.set_policy(server.request(policy)).await.unwrap();
        shop.count("berlin", berlin).await;
        shop.count("hamburg", hamburg).await;
        shop
    }

    fn key(&mut self) -> String {
        self.calls += 1;
        format!("call-{}", self.calls)
    }

    async fn count(&mut self, location: &str, quantity: i64) {
        let now_us = lockstep_hub::now_us();
        let request = CountRequest {
            idempotency_key: self.key(),
            sku: "MUG".to_owned(),
            location: location.to_owned(),
            basis: CountBasis::OnHand.into(),
            quantity,
            // To the microsecond: two counts of one instant with two numbers contradict each other.
            as_of: Some(Timestamp { seconds: now_us / 1_000_000, nanos: (now_us % 1_000_000) as i32 * 1_000 }),
            confirmed: false,
        };
        let counted = self.client.count(self.server.request(request)).await.unwrap().into_inner();
        assert_eq!(counted.outcome(), StockOutcome::Applied);
    }

    fn reserve_request(&mut self, id: &str, quantity: i64) -> ReserveRequest {
        ReserveRequest {
            idempotency_key: self.key(),
            reservation_id: id.to_owned(),
            owner: format!("cart-{id}"),
            channel: "web".to_owned(),
            expires_at: at(now_s() + 3_600),
            items: vec![ReserveItem { sku: "MUG".to_owned(), quantity, ..ReserveItem::default() }],
            ..ReserveRequest::default()
        }
    }

    async fn reserve(&mut self, id: &str, quantity: i64) -> Result<ReservationResponse, Status> {
        let request = self.reserve_request(id, quantity);
        self.client.reserve(self.server.request(request)).await.map(tonic::Response::into_inner)
    }

    async fn atp(&mut self) -> i64 {
        let request =
            GetAvailabilityRequest { skus: vec!["MUG".to_owned()], channel: "web".to_owned(), ..Default::default() };
        self.client.get_availability(self.server.request(request)).await.unwrap().into_inner().items[0].atp_quantity
    }

    async fn stock(&mut self, location: &str) -> Result<LocationStock, Status> {
        let (sku, location) = ("MUG".to_owned(), location.to_owned());
        let request = GetStockRequest { sku, location, channel: "web".to_owned(), holders_max: 10 };
        self.client.get_stock(self.server.request(request)).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test]
async fn a_reservation_goes_from_the_cart_to_the_parcel() {
    let server = Server::start().await;
    let mut shop = Shop::with(&server, 5, 3).await;
    let held = shop.reserve("r1", 4).await.unwrap().reservation.unwrap();
    assert_eq!((held.state(), held.owner.as_str()), (ReservationState::Held, "cart-r1"));
    assert_eq!((held.lines.len(), held.lines[0].location.as_str(), held.lines[0].open_quantity), (1, "berlin", 4));
    assert_eq!(shop.atp().await, 4);

    let id = || "r1".to_owned();
    let extend = ExtendRequest { idempotency_key: shop.key(), reservation_id: id(), expires_at: at(now_s() + 7_200) };
    let until = extend.expires_at;
    let extended = shop.client.extend(server.request(extend)).await.unwrap().into_inner().reservation.unwrap();
    assert_eq!(extended.expires_at, until);
    let commit = CommitRequest { idempotency_key: shop.key(), reservation_id: id() };
    let committed = shop.client.commit(server.request(commit)).await.unwrap().into_inner().reservation.unwrap();
    assert_eq!((committed.state(), committed.expires_at), (ReservationState::Committed, None));

    let transfer = TransferRequest {
        idempotency_key: shop.key(),
        reservation_id: id(),
        line: 0,
        to_location: "hamburg".to_owned(),
        quantity: 1,
    };
    let moved = shop.client.transfer(server.request(transfer)).await.unwrap().into_inner().reservation.unwrap();
    let open: BTreeMap<_, _> = moved.lines.iter().map(|line| (line.location.as_str(), line.open_quantity)).collect();
    assert_eq!(open, BTreeMap::from([("berlin", 3), ("hamburg", 1)]));

    let consume = ConsumeRequest {
        idempotency_key: shop.key(),
        reservation_id: id(),
        movement_id: "parcel-1".to_owned(),
        sku: "MUG".to_owned(),
        location: "berlin".to_owned(),
        quantity: 3,
        occurred_at: None,
    };
    let consumed = shop.client.consume(server.request(consume)).await.unwrap().into_inner();
    assert_eq!(consumed.outcome(), StockOutcome::Applied);
    let berlin = shop.stock("berlin").await.unwrap();
    assert_eq!((berlin.on_hand_quantity, berlin.committed_quantity, berlin.atf_quantity), (2, 0, 2));
    let hamburg = shop.stock("hamburg").await.unwrap();
    assert_eq!((hamburg.committed_quantity, hamburg.holders[0].reservation_id.as_str()), (1, "r1"));

    let release = ReleaseRequest { idempotency_key: shop.key(), reservation_id: id(), lines: Vec::new() };
    shop.client.release(server.request(release)).await.unwrap();
    assert_eq!(shop.atp().await, 5);
    let get = GetReservationRequest { reservation_id: id() };
    let now = shop.client.get_reservation(server.request(get)).await.unwrap().into_inner();
    let sums = |line: &lockstep_grpc::v1::ReservationLine| {
        line.open_quantity + line.consumed_quantity + line.released_quantity + line.expired_quantity
    };
    assert!(now.lines.iter().all(|line| line.quantity == sums(line) && line.open_quantity == 0), "{now:?}");

    let ledger = ListLedgerRequest { sku: "MUG".to_owned(), location: "berlin".to_owned(), ..Default::default() };
    let ledger = shop.client.list_ledger(server.request(ledger)).await.unwrap().into_inner();
    let types: Vec<_> = ledger.entries.iter().map(|entry| entry.r#type.as_str()).collect();
    assert_eq!(types.first(), Some(&"stock.counted"));
    assert!(types.contains(&"reservation.held") && ledger.at_end, "{types:?}");
    let first = &ledger.entries[0];
    let document: serde_json::Value = serde_json::from_str(&first.document_json).unwrap();
    assert_eq!((document["on_hand"].clone(), first.system.as_str()), (5.into(), "erp"));
    drop(shop);
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let server = Server::start().await;
    let mut shop = Shop::with(&server, 2, 1).await;
    let short = shop.reserve("r1", 4).await.unwrap_err();
    expect(&short, Code::FailedPrecondition, "stock-short");
    let told = String::from_utf8_lossy(short.details()).into_owned();
    assert!(told.contains("shortfalls") && told.contains(r#""requested":4"#), "{told}");

    let partial = ReserveRequest { allow_partial: true, allow_split: true, ..shop.reserve_request("r1", 4) };
    let partial = shop.client.reserve(server.request(partial)).await.unwrap().into_inner();
    assert_eq!((partial.shortfalls[0].requested_quantity, partial.shortfalls[0].available_quantity), (4, 3));

    let unknown = CommitRequest { idempotency_key: shop.key(), reservation_id: "nobody".to_owned() };
    expect(&shop.client.commit(server.request(unknown)).await.unwrap_err(), Code::NotFound, "unknown-reservation");
    expect(&shop.stock("paris").await.unwrap_err(), Code::NotFound, "unknown-stock");
    let cases = [
        (ReserveRequest { expires_at: None, ..shop.reserve_request("r2", 1) }, "/expires_at"),
        (ReserveRequest { reservation_id: String::new(), ..shop.reserve_request("r2", 1) }, "/"),
    ];
    for (request, field) in cases {
        let status = shop.client.reserve(server.request(request)).await.unwrap_err();
        expect(&status, Code::InvalidArgument, "stock-invalid");
        assert!(String::from_utf8_lossy(status.details()).contains(field), "{status:?}");
    }
    let idempotency_key = shop.key();
    shop.client
        .set_policy(server.request(SetPolicyRequest {
            idempotency_key,
            channel: "web".to_owned(),
            ..Default::default()
        }))
        .await
        .unwrap();
    let of = |sku: &str, quantity: i64, location: &str| ReserveItem {
        sku: sku.to_owned(),
        quantity,
        location: location.to_owned(),
    };
    let table = [
        (ReserveRequest { items: vec![], ..shop.reserve_request("r2", 1) }, "`items` must be 1 to 1000, not 0"),
        (
            ReserveRequest { items: vec![of("MUG", 1, ""); 1_001], ..shop.reserve_request("r2", 1) },
            "`items` must be 1 to 1000, not 1001",
        ),
        (
            ReserveRequest { items: vec![of("MUG", -1, "")], ..shop.reserve_request("r2", 1) },
            "`items.quantity` must be 1 to 1000000000000000, not -1",
        ),
        (
            ReserveRequest { items: vec![of("CUP", 1, "")], ..shop.reserve_request("r2", 1) },
            "`items.sku` must be one that was counted or moved, is a kit or on order, not `CUP`",
        ),
        (
            ReserveRequest { items: vec![of("MUG", 1, "x")], ..shop.reserve_request("r2", 1) },
            "`items.location` must be one where something lies, not `x`",
        ),
        (
            ReserveRequest { channel: "wbe".to_owned(), ..shop.reserve_request("r2", 1) },
            "`channel` must be one that has a policy (web), not `wbe`",
        ),
        (
            ReserveRequest { expires_at: at(now_s() - 1), ..shop.reserve_request("r2", 1) },
            "`expires_at` must be later than now",
        ),
        (
            ReserveRequest { expires_at: at(now_s() + 31 * 86_400), ..shop.reserve_request("r2", 1) },
            "`expires_at` must be at most 2592000 s from now (`stock.hold_max_s`)",
        ),
    ];
    for (request, message) in table {
        let status = shop.client.reserve(server.request(request)).await.unwrap_err();
        expect(&status, Code::InvalidArgument, "stock-invalid");
        assert_eq!(status.message(), message);
        let field = message.split('`').nth(1).unwrap().replace('.', "/");
        assert!(String::from_utf8_lossy(status.details()).contains(&format!("/{field}")), "{status:?}");
    }
    let wrong = GetAvailabilityRequest {
        skus: vec!["MUG".to_owned()],
        channel: "wbe".to_owned(),
        ..GetAvailabilityRequest::default()
    };
    let status = shop.client.get_availability(server.request(wrong)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "stock-invalid");
    let ahead = CountRequest {
        idempotency_key: shop.key(),
        sku: "MUG".to_owned(),
        location: "berlin".to_owned(),
        basis: CountBasis::OnHand.into(),
        quantity: 5,
        as_of: at(now_s() + 600),
        confirmed: true,
    };
    let status = shop.client.count(server.request(ahead)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "clock-skew");
    assert!(String::from_utf8_lossy(status.details()).contains("/as_of"), "{status:?}");
    let keyless = ReserveRequest { idempotency_key: String::new(), ..shop.reserve_request("r2", 1) };
    let status = shop.client.reserve(server.request(keyless)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "invalid-parameter");
    let count = CountRequest { idempotency_key: shop.key(), as_of: at(now_s()), ..CountRequest::default() };
    expect(&shop.client.count(server.request(count)).await.unwrap_err(), Code::InvalidArgument, "stock-invalid");
    drop(shop);
    server.stop().await;
}

#[tokio::test]
async fn a_repetition_has_one_effect_and_another_request_under_its_key_is_refused() {
    let server = Server::start().await;
    let mut shop = Shop::with(&server, 5, 0).await;
    let request = shop.reserve_request("r1", 2);
    let first = shop.client.reserve(server.request(request.clone())).await.unwrap().into_inner();
    let again = shop.client.reserve(server.request(request.clone())).await.unwrap().into_inner();
    assert_eq!((first.repeated_call, again.repeated_call), (false, true));
    assert_eq!(first.reservation, again.reservation);
    assert_eq!(shop.atp().await, 3);
    let other = ReserveRequest {
        items: vec![ReserveItem { sku: "MUG".to_owned(), quantity: 1, ..Default::default() }],
        ..request
    };
    let status = shop.client.reserve(server.request(other)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "key-reused");
    drop(shop);
    server.stop().await;
}

#[tokio::test]
async fn questions_need_another_scope_than_writes() {
    let server = Server::start().await;
    let mut shop = Shop::with(&server, 1, 0).await;
    let reader = server.keys.create("reader", &[Scope::Read], None, None).unwrap();
    let question = GetAvailabilityRequest { skus: vec!["MUG".to_owned()], ..GetAvailabilityRequest::default() };
    shop.client.get_availability(with_key(question, &reader)).await.unwrap();
    let request = shop.reserve_request("r1", 1);
    let status = shop.client.reserve(with_key(request, &reader)).await.unwrap_err();
    expect(&status, Code::PermissionDenied, "scope-missing");
    let none = GetAvailabilityRequest::default();
    let status = shop.client.get_availability(server.request(none)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "invalid-parameter");
    drop(shop);
    server.stop().await;
}

#[tokio::test]
async fn a_reservation_is_told_after_the_sync() {
    let (journal, gate) = GatedJournal::with_gate();
    let server = Server::with(Setup { journal: Some(journal), ..Setup::default() }).await;
    let mut shop = Shop::with(&server, 5, 0).await;
    gate.close();
    let request = server.request(shop.reserve_request("r1", 1));
    let mut client = shop.client.clone();
    let mut call = tokio::spawn(async move { client.reserve(request).await });
    gate.until_waiting().await;
    assert!(futures_util::poll!(&mut call).is_pending(), "answered before it was durable");
    gate.open();
    assert_eq!(call.await.unwrap().unwrap().into_inner().reservation.unwrap().state(), ReservationState::Held);
    drop(shop);
    server.stop().await;
}

/// Reads until this is what may be sold.
async fn until(watch: &mut Streaming<WatchAvailabilityResponse>, atp: i64) {
    let reading = async {
        loop {
            let items = watch.message().await.unwrap().unwrap().items;
            assert!(items.iter().all(|item| item.sku == "MUG" && item.channel == "web"), "{items:?}");
            if items.iter().any(|item| item.atp_quantity == atp) {
                return;
            }
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, reading).await.expect("it is never told");
}

#[tokio::test]
async fn a_watch_begins_with_what_is_and_tells_what_becomes() {
    let mut server = Server::start().await;
    let mut shop = Shop::with(&server, 100, 0).await;
    let request = WatchAvailabilityRequest { skus: vec!["MUG".to_owned()], channel: "web".to_owned() };
    let mut watch = shop.client.watch_availability(server.request(request)).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().items;
    assert_eq!(first.iter().map(|item| (item.atp_quantity, item.is_fresh)).collect::<Vec<_>>(), [(100, true)]);
    // Many changes, which nobody reads meanwhile, are told as what has become of them.
    for n in 0..50 {
        shop.reserve(&format!("r{n}"), 1).await.unwrap();
    }
    until(&mut watch, 50).await;
    shop.count("hamburg", 7).await;
    until(&mut watch, 57).await;
    drop(shop);
    server.begin_stop();
    let end = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    expect(&end, Code::Unavailable, "shutting-down");
    server.stop().await;
}

#[tokio::test]
async fn goods_of_a_reservation_that_was_never_there_are_a_mistake() {
    let server = Server::start().await;
    let mut shop = Shop::with(&server, 5, 3).await;
    let consume = ConsumeRequest {
        idempotency_key: shop.key(),
        reservation_id: "r9".to_owned(),
        movement_id: "parcel-1".to_owned(),
        sku: "MUG".to_owned(),
        location: "berlin".to_owned(),
        quantity: 1,
        occurred_at: None,
    };
    let refused = shop.client.consume(server.request(consume)).await.unwrap_err();
    expect(&refused, Code::NotFound, "unknown-reservation");
    assert_eq!(shop.stock("berlin").await.unwrap().on_hand_quantity, 5);
    server.stop().await;
}
