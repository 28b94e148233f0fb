//! The configuration as a whole: what is written in the file and what comes of it.

use std::path::Path;

use lockstep_core::delivery::Step;
use lockstep_core::delivery::degrade::Marks;

use super::*;

fn load(text: &str) -> Loaded {
    Loaded::parse(Path::new("x.toml"), text.to_owned())
}

fn problems(text: &str) -> Vec<String> {
    load(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_is_the_defaults() {
    let loaded = load("");
    assert_eq!(loaded.problems, []);
    let config = loaded.config.unwrap();
    assert_eq!(config.hub, HubConfig::default());
    assert_eq!(config.http.listen, "127.0.0.1:7070");
    assert_eq!(config.http.options(), lockstep_api::ApiOptions::default(), "a limit of the API has no field here");
}

#[test]
fn the_example_has_the_right_shape_and_every_top_table() {
    let loaded = load(EXAMPLE);
    assert_eq!(loaded.problems, []);
    let schema = schema();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(EXAMPLE.contains(&format!("[{name}")), "the example has no [{name}]");
    }
}

#[test]
fn a_destination_is_one_table_for_two_types() {
    let config = load(
        "[destinations.erp]\nkind = \"webhook\"\nsystem = \"erp\"\nurl = \"https://erp.example/in\"\nsecrets = [\"env:A\"]\nconcurrency_max = 3\nretry = { retries_max = 9 }\nstart = \"now\"\n",
    );
    let config = config.config.unwrap_or_else(|| panic!("{:?}", config.problems));
    let options = config.destinations["erp"].options("erp");
    assert_eq!((options.concurrency_max, options.retry.retries_max), (3, 9));
    assert_eq!(options.retry.backoff_first_ms, Retry::default().backoff_first_ms);
    assert_eq!(options.start, lockstep_hub::delivery::Start::Now);
}

#[test]
fn a_destinations_fields_are_known_whichever_type_they_belong_to() {
    let text = "[destinations.erp]\nkind = \"webhook\"\nsystem = \"erp\"\nurl = \"https://erp.example/in\"\nsecrets = [\"env:A\"]\n";
    assert_eq!(
        problems(&format!("{text}timeout = 7\nretry = {{ retry_max = 1 }}\nfilter = {{ kind = [\"order\"] }}\n")),
        [
            "x.toml:6:1: `timeout` is not a field of [destinations.erp]; did you mean `timeout_ms`?",
            "x.toml:7:11: `retry_max` is not a field of [destinations.erp.retry]; did you mean `retries_max`?",
            "x.toml:8:12: `kind` is not a field of [destinations.erp.filter]; did you mean `kinds`?",
        ]
    );
    assert_eq!(
        problems("[destinations.erp]\nkind = \"webhook\"\n"),
        [
            "x.toml:1:15: [destinations.erp] needs the field `secrets`: The secrets with which deliveries are signed",
            "x.toml:1:15: [destinations.erp] needs the field `system`: The system that it leads to",
            "x.toml:1:15: [destinations.erp] needs the field `url`: Where the events go, for example `https://erp.example/hooks/lockstep`",
        ]
    );
    assert_eq!(
        problems("[destinations.erp]\n"),
        [
            "x.toml:1:15: [destinations.erp] needs the field `kind`: one of \"webhook\", \"http\", \"file\", \"email\", \"chat\""
        ]
    );
}

#[test]
fn a_kind_has_the_secrets_that_it_has_a_use_for() {
    let file = "[destinations.a]\nkind = \"file\"\nsystem = \"a\"\nfolder = \"out\"\n";
    assert_eq!(problems(file), [""; 0]);
    let found = problems(&format!("{file}secrets = [\"env:A\"]\nsecret_headers = {{ a = \"env:A\" }}\n"));
    let expected = [
        "x.toml:5:1: `secrets` is not a field of [destinations.a]; ",
        "x.toml:6:1: `secret_headers` is not a field of [destinations.a]; ",
    ];
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, start)| found.starts_with(start)), "{found:?}");
    let http = "[destinations.a]\nkind = \"http\"\nsystem = \"a\"\nurl = \"https://a.example/\"\n";
    assert_eq!(problems(http), [""; 0]);
    assert_eq!(
        problems(&format!(
            "{http}secrets = [\"env:A\"]\noauth = {{ token_url = \"https://a/\", client_id = \"b\" }}\n"
        )),
        [""; 0]
    );
    assert_eq!(
        problems(&format!("{http}success = {{ answer = {{ \"/a\" = [1] }}, statuses = [\"a\"] }}\n")),
        ["x.toml:5:50: `statuses` must be a whole number, not a text in quotes"]
    );
}

#[test]
fn a_signature_is_known_by_its_scheme() {
    let source = |signature: &str| {
        problems(&format!(
            "[sources.a]\nsystem = \"a\"\npack = \"shopify\"\nsecrets = [\"env:A\"]\nsignature = {signature}\n"
        ))
    };
    assert_eq!(source("{ scheme = \"hmac\", header = \"x-sign\", encoding = \"hex\" }"), [""; 0]);
    assert_eq!(source("{ scheme = \"hmca\" }"), ["x.toml:5:24: `scheme` can't be \"hmca\"; did you mean `hmac`?"]);
    assert_eq!(
        source("{ scheme = \"hmac\", header = \"x\", encoding = \"base46\" }"),
        ["x.toml:5:57: `encoding` can't be \"base46\"; did you mean `base64`?"]
    );
    assert_eq!(
        source("{ scheme = \"hmac\", heder = \"x\" }"),
        [
            "x.toml:5:1: [sources.a.signature] needs the field `header`: The header that carries the signature",
            "x.toml:5:32: `heder` is not a field of [sources.a.signature]; did you mean `header`?",
        ]
    );
}

#[test]
fn what_is_cut_off_by_an_error_of_syntax_is_no_further_problem() {
    let found = problems("[hub]\nnmae = \"x\"\n\n[sources.shop]\nsystem = \nbogus = 1\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], "x.toml:2:1: `nmae` is not a field of [hub]; did you mean `name`?");
    assert!(found[1].starts_with("x.toml:5:"), "{found:?}");
}

#[test]
fn every_limit_of_the_hub_has_a_field() {
    let options = HubConfig::default().options("d".into(), lockstep_core::Rules::default());
    let defaults = lockstep_hub::HubOptions::new("d", lockstep_core::Rules::default());
    assert_eq!(format!("{options:?}"), format!("{defaults:?}"));
}

#[test]
fn the_types_and_the_schema_agree_on_every_default() {
    let written = toml::to_string(&Config::default()).unwrap();
    let loaded = load(&written);
    assert_eq!(loaded.problems, [], "{written}");
    assert_eq!(loaded.config.unwrap().hub, HubConfig::default());
}

#[test]
fn degrading_is_off_goes_as_far_as_a_queue_where_declared_and_its_steps_are_in_order() {
    let text = "[destinations.a]\nkind = \"file\"\nsystem = \"a\"\nfolder = \"out\"\n";
    let policy = |more: &str| {
        let loaded = Loaded::parse(Path::new("x.toml"), format!("{text}{more}"));
        loaded.config.expect("no problem of its shape").destinations["a"].options("a").degrade
    };
    assert_eq!(policy("").automatic, Step::RealTime);
    assert_eq!(policy("degrade = {}\n").automatic, Step::Queue);
    let given = policy("degrade = { automatic = \"pause\", queue = { pending = 9 } }\n");
    assert_eq!(
        (given.automatic, given.marks[0], given.marks[2].down_s),
        (Step::Pause, Marks { pending: 9, ..Marks::default() }, 300)
    );
    assert_eq!(
        problems(&format!("{text}degrade = {{ pause = {{ lag_s = 3 }} }}\n")),
        ["x.toml:5:23: `lag_s` is not a field of [destinations.a.degrade.pause]; the only one known is `down_s`"]
    );
}
