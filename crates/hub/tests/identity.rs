//! Inputs of one batch that change which entity the later ones mean: what those need is loaded all the same.

mod common;

use common::options;
use lockstep_core::decide::{INTO_FIELD, MERGE_KIND};
use lockstep_core::merge::{OPERATOR, Policy, Review};
use lockstep_core::{Change, Domain, Field, Input, InputBody, Outcome, Refusal, Rules};
use lockstep_hub::{Hub, HubHandle};

fn open(dir: &std::path::Path) -> Hub {
    let mut rules = Rules::new();
    let fields = [("note".to_owned(), Policy::Review(Review::default()))].into();
    rules.declare(Domain { kind: "customer".into(), fields, ..Domain::default() });
    let mut options = options(dir);
    options.rules = rules;
    Hub::open(options).unwrap()
}

fn says(system: &str, delivery: &str, (kind, key): (&str, &str), at: i64, fields: &[(&str, &str)]) -> Input {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, json.as_bytes().to_vec())).collect();
    Input {
        source: system.into(),
        system: system.into(),
        delivery: delivery.into(),
        payload_hash: 1,
        reject_reuse: true,
        request_key: None,
        received_at_us: at,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![Change::new(kind, key, 0, at, fields).unwrap()]),
        releases: None,
    }
}

async fn value(handle: &HubHandle, kind: &str, key: &str, field: &str) -> String {
    let entity = handle.find(kind, key).await.unwrap().unwrap();
    String::from_utf8(entity.value(field).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn what_an_earlier_input_of_the_batch_says_counts_for_the_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (("customer", "A"), ("customer", "B"));
    let hub = open(dir.path());
    let first = vec![
        says("shop", "1", a, 1, &[("note", "1")]),
        says("erp", "2", a, 2, &[("note", "2")]),
        says("shop", "3", b, 3, &[("note", "3")]),
    ];
    hub.handle().submit(first).await.unwrap();
    hub.shutdown().await;

    // Nothing is in memory: the entity is named by what it is called only since the input before.
    let hub = open(dir.path());
    let handle = hub.handle();
    let named = ("customer", "@s/id/A");
    let batch = vec![
        says("crm", "4", named, 4, &[("note", "9")]),
        says("crm", "5", a, 4, &[("external_ids", "[\"@s/id/A\"]"), ("name", "1")]),
        says("crm", "6", b, 4, &[("external_ids", "[\"@s/id/A\"]")]),
        says("erp", "7", named, 5, &[("note", "1")]),
    ];
    let answers = handle.submit(batch).await.unwrap();
    assert!(matches!(&answers[0], Err(Refusal::AliasUnknown { .. })), "{:?}", answers[0]);
    assert!(matches!(&answers[1], Ok(Outcome::Applied { .. })), "{:?}", answers[1]);
    assert!(matches!(&answers[2], Err(Refusal::AliasTaken { known, .. }) if known == "customer/A"), "{:?}", answers[2]);
    assert!(answers[3].is_ok(), "{:?}", answers[3]);
    // The conflict is the one that was there, and it has ended.
    let conflict = handle.entity("conflict", "customer/A#note").await.unwrap().unwrap();
    assert_eq!((conflict.version, conflict.value("status").unwrap().as_ref()), (2, b"\"resolved\"".as_ref()));
    hub.shutdown().await;

    // The same for a merge: what is said of the one that goes is said of the one that stays.
    let hub = open(dir.path());
    let handle = hub.handle();
    let merge = |delivery: &str, at: i64, into: &str| {
        says(OPERATOR, delivery, (MERGE_KIND, "customer/B"), at, &[(INTO_FIELD, into)])
    };
    let batch = vec![
        merge("m1", 6, "\"A\""),
        merge("m2", 7, "\"A\""),
        says("crm", "8", b, 8, &[("note", "8")]),
        merge("m3", 9, "null"),
        says("crm", "9", b, 10, &[("name", "10")]),
        merge("m4", 11, "\"A\""),
    ];
    let answers = handle.submit(batch).await.unwrap();
    assert!(matches!(&answers[1], Err(Refusal::Merge { .. })), "{:?}", answers[1]);
    assert!(answers.iter().enumerate().all(|(at, answer)| at == 1 || answer.is_ok()), "{answers:?}");
    assert_eq!(value(&handle, "customer", "B", "name").await, "10");
    assert_eq!(handle.find("customer", "B").await.unwrap().unwrap().key, "A");
    let conflict = handle.entity("conflict", "customer/A#note").await.unwrap().unwrap();
    assert!(conflict.version > 2, "it goes on: {}", conflict.version);
    assert_eq!(value(&handle, "conflict", "customer/A#note", "status").await, "\"open\"");
    let stands = handle.find("customer", "A").await.unwrap().unwrap();
    assert_eq!(handle.stats().tallies().violations(), Vec::<String>::new());
    hub.shutdown().await;

    // By folding alone it comes to the same.
    std::fs::remove_file(dir.path().join("state.sqlite")).unwrap();
    let hub = open(dir.path());
    assert_eq!(hub.handle().find("customer", "B").await.unwrap().unwrap(), stands);
    hub.shutdown().await;
}
