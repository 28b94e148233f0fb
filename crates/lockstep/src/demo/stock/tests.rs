//! The whole demo, with a hub that is told of units that were never there.

use std::time::Duration;

use http::Method;
use lockstep_connect::time::format_rfc3339;
use lockstep_hub::now_us;
use serde_json::json;

use super::desk::Said;
use super::{ARTICLES, LOCATION, article};
use crate::demo::DemoArgs;
use crate::demo::party::Party;
use crate::demo::report::Report;
use crate::demo::screen::Screen;
use crate::demo::session::Session;
use crate::demo::world::{Plan, World};

fn arguments() -> DemoArgs {
    DemoArgs {
        duration: Duration::from_secs(2),
        rate: 50,
        seed: 1,
        entities: 20,
        orders: None,
        carts: 60,
        faults: false,
        keep: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_believes_in_units_that_are_not_there_is_found_overselling() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan { orders_of_file: false, faults: None, sells: true };
    let world = World::start(folder.path(), &plan).await.expect("the world starts");
    let sale = world.sale.clone().expect("there is a sale");
    let stranger = world.desk(Party::Erp, &sale).expect("a key");
    // No count of the shelf has what is to come later.
    let later = format_rfc3339(now_us() + 60_000_000);
    for of in 0..ARTICLES {
        let key = format!("phantom-{of}");
        let path = format!("/v1/stock/{}/{LOCATION}/movements", article(of));
        let body = json!({"movement": key, "kind": "receipt", "quantity": 20, "occurred_at": later});
        let said = stranger.ask(Method::POST, &path, &key, &body).await;
        assert!(matches!(&said, Said::Done(told) if told["outcome"] == "applied"), "{said:?}");
    }
    let mut session = Session::new(world, Screen::new(true), String::new());
    let args = arguments();
    let settled = session.run(&args, None).await.expect("it runs");
    assert_eq!(settled, Ok(()));
    let report = Report::make(&session, settled, None).await.expect("all can be compared");

    assert!(!report.is_equal());
    let document = report.json(&args);
    let number = |name: &str| document["stock"][name].as_i64().unwrap_or_default();
    assert!(number("oversold") > 0, "{:#}", document["stock"]);
    // Nothing else is wrong: all agree about what was promised.
    assert_eq!((number("wrong"), &document["verdict"]["differences"]), (0, &json!(0)), "{:#}", document["verdict"]);
    let text = report.text();
    let verdict = text.last().expect("a verdict");
    let oversold = format!("oversold {}, ", number("oversold"));
    assert!(verdict.starts_with("verdict: different") && verdict.contains(&oversold), "{verdict}");
    let on_hand: Vec<_> = text.iter().filter(|line| line.contains(" on hand here, ")).collect();
    assert_eq!(on_hand.len(), ARTICLES, "{text:#?}");
    session.world.stop().await.expect("it stops");
}
