//! `lockstep check` and `lockstep config`: every problem, with its place and what would be right.

mod common;

use std::path::Path;

use common::{folder, run, write};

/// The problems of a configuration, as they are printed.
fn problems(folder: &Path) -> Vec<String> {
    let ended = run(folder, &["check"]).expect(2);
    let mut lines: Vec<_> = ended.out.lines().map(str::to_owned).collect();
    let verdict = lines.pop().unwrap();
    assert!(verdict.contains("error"), "{verdict}");
    lines
}

#[track_caller]
fn check(config: &str, expected: &[&str]) {
    let folder = folder(config);
    assert_eq!(problems(folder.path()), expected, "for:\n{config}");
}

#[test]
fn an_unknown_field_is_refused_with_the_nearest_known_name() {
    check(
        "[domains.price]\npolcy = \"owner\"\n",
        &["lockstep.toml:2:1: `polcy` is not a field of [domains.price]; did you mean `policy`?"],
    );
    check("[htpp]\n", &["lockstep.toml:1:2: `htpp` is not a field of the configuration; did you mean `http`?"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    check(
        "\
[hub]
cache_bytes_max = \"64 MB\"
flush_interval_ms = 0

[domains.price]
policy = \"ownr\"

[sources.shop]
pack = \"shopify\"
secrets = [\"hush-hush\"]

[destinations.erp]
kind = \"webhok\"
",
        &[
            "lockstep.toml:2:19: `cache_bytes_max` must be a whole number, not a text in quotes: The bytes of entities kept in memory, also those that are not flushed yet, as far as they can be told",
            "lockstep.toml:3:21: `flush_interval_ms` must be at least 10",
            "lockstep.toml:6:10: `policy` can't be \"ownr\"; did you mean `owner`?",
            "lockstep.toml:8:10: [sources.shop] needs the field `system`: The system that it speaks for",
            "lockstep.toml:10:12: `secrets`: a secret is not written into the configuration, where backups and reviews would show it: use \"env:NAME\" for a variable or \"file:PATH\" for a file",
            "lockstep.toml:13:8: `kind` can't be \"webhok\"; did you mean `webhook`?",
        ],
    );
}

#[test]
fn references_lead_somewhere() {
    check(
        "\
[domains.price]
policy = \"owner\"
owner = [\"epr\", \"epr\"]

[domains.product]
policy = \"latest\"
states = [\"a\", \"b\"]

[domains.loyalty]
policy = \"latest\"

[systems.erp]

[sources.shop]
system = \"shop\"
pack = \"shopfy\"
secrets = [\"env:SHOP_SECRET\"]

[destinations.erp]
kind = \"webhook\"
system = \"erp\"
url = \"http://127.0.0.1:9000/in\"
secrets = [\"env:SHOP_SECRET\"]
filter = { kinds = [\"ordr\"], types = [\"prise.changed\"], when = \"maps/none.vrl\" }
",
        &[
            "lockstep.toml:3:10: no source, destination or [systems] entry names the system `epr`; did you mean `erp`? (A system that only writes with an API key is declared as [systems.epr].)",
            "lockstep.toml:3:17: `epr` is in this list twice",
            "lockstep.toml:3:17: no source, destination or [systems] entry names the system `epr`; did you mean `erp`? (A system that only writes with an API key is declared as [systems.epr].)",
            "lockstep.toml:7:10: `states` of [domains.product] is only for policy = \"business-state\"",
            "lockstep.toml:9:10: `loyalty` is not a kind that Lockstep knows: [domains.loyalty] needs `schema`, the file of its JSON Schema",
            "lockstep.toml:16:8: there is no pack `shopfy`; did you mean `shopify`?",
            "lockstep.toml:22:7: `url` is refused: `127.0.0.1` has the address 127.0.0.1, which is not a public one: set `allow_private_addresses = true` if it is meant",
            "lockstep.toml:24:21: `ordr` is not a kind that this hub knows; did you mean `order`?",
            "lockstep.toml:24:39: `prise` is not a kind that this hub knows; did you mean `price`?",
            "lockstep.toml:24:64: maps/none.vrl can't be read: No such file or directory (os error 2)",
        ],
    );
}

#[test]
fn what_could_never_work_is_refused() {
    check(
        "[hub]\nseen_days = 60\n\n[stock]\nreservation_days = 30\n",
        &[
            "lockstep.toml:5:20: `reservation_days` must be at least the 60 `seen_days` of [hub], not 30: a request that is repeated within them asks for its reservation",
        ],
    );
    check(
        "\
[hub]
data_dir = \"\"

[sources.shop]
system = \"shop\"
pack = \"shopify\"
secrets = [\"env:\"]
",
        &[
            "lockstep.toml:2:12: `data_dir` must not be empty",
            "lockstep.toml:7:12: `secrets`: the name after `env:` is missing: use \"env:NAME\" for a variable or \"file:PATH\" for a file",
        ],
    );
    check(
        "\
[systems.\"e rp\"]

[sources.shop]
system = \"Shop\"
pack = \"shopify\"
secrets = [\"env:SHOP_SECRET\"]
currency = \"eur\"

[destinations.erp]
kind = \"webhook\"
system = \"erp.eu_1\"
url = \"https://erp.example.com/in\"
secrets = [\"env:NEVER_SET_ANYWHERE\"]
filter = { types = [\"order.place\", \"order.*\", \"stock.changed\"] }
retry = { backoff_first_ms = 500, backoff_max_ms = 100 }
degrade = { automatic = \"micro-batch\", window_ms = 20000, micro_batch = { lag_s = 30 } }
",
        &[
            "lockstep.toml:1:10: a system's name must be 1 to 64 characters of a-z, 0-9, ., _ and -, not `e rp`",
            "lockstep.toml:4:10: a system's name must be 1 to 64 characters of a-z, 0-9, ., _ and -, not `Shop`",
            "lockstep.toml:7:12: `currency` must be three letters A-Z (ISO 4217), not `eur`",
            "lockstep.toml:13:12: warning: the secret's variable NEVER_SET_ANYWHERE is not set here; the hub does not start without it",
            "lockstep.toml:14:21: `order.place` is not a type of events; did you mean `order.placed`?",
            "lockstep.toml:14:47: `stock.changed` is not a type of events; did you mean `stock.counted`?",
            "lockstep.toml:15:52: `backoff_max_ms` (100) must not be less than `backoff_first_ms` (500)",
            "lockstep.toml:16:52: `window_ms` (20000) must be less than the lower mark of `micro_batch.lag_s` (15000 ms): or what is held for the window keeps it from coming back",
            "lockstep.toml:16:83: `lag_s` of `micro_batch` (30) must not be less than that of `queue` (60): it is the step after it",
        ],
    );
}

#[test]
fn mappings_are_compiled_and_their_problems_have_a_line() {
    let folder = folder(
        "\
[sources.market]
system = \"market\"
mapping = \"maps/market.vrl\"
topic_header = \"x-topic\"
secrets = [\"env:SHOP_SECRET\"]
signature = { scheme = \"hmac\", header = \"x-signature\" }
",
    );
    write(folder.path(), "maps/market.vrl", "order = .id\n.key = downcas(string!(order))\n");
    let found = problems(folder.path());
    assert!(found.iter().any(|line| line.starts_with("maps/market.vrl:2:")), "{found:?}");
    write(
        folder.path(),
        "maps/market.vrl",
        "{ \"kind\": \"order\", \"key\": string!(.id), \"fields\": { \"note\": .note } }\n",
    );
    run(folder.path(), &["check"]).expect(0);
}

#[test]
fn a_missing_secret_is_a_warning_here_and_named() {
    let folder =
        folder("[sources.shop]\nsystem = \"shop\"\npack = \"shopify\"\nsecrets = [\"env:NEVER_SET_ANYWHERE\"]\n");
    let ended = run(folder.path(), &["check", "--json"]).expect(0);
    let report = ended.json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["warnings"], 1);
    let problem = &report["problems"][0];
    assert_eq!((&problem["level"], &problem["line"], &problem["column"]), (&"warning".into(), &4.into(), &12.into()));
    assert!(problem["message"].as_str().unwrap().contains("NEVER_SET_ANYWHERE"), "{problem}");
}

#[test]
fn a_secret_in_the_file_is_never_printed() {
    let folder = folder("[sources.shop]\nsystem = \"shop\"\npack = \"shopify\"\nsecrets = [\"hush-hush\", 7]\n");
    for args in [vec!["check"], vec!["check", "--json"], vec!["serve"]] {
        let ended = run(folder.path(), &args).expect(2);
        assert!(!ended.out.contains("hush-hush") && !ended.err.contains("hush-hush"), "{ended:?}");
    }
}

#[test]
fn a_pack_beside_the_configuration_is_checked_with_its_samples() {
    let folder = folder("[sources.till]\nsystem = \"till\"\npack = \"till\"\nsecrets = [\"env:SHOP_SECRET\"]\n");
    let pack = folder.path().join("packs/till");
    copy_pack("shopify", &pack);
    let toml = std::fs::read_to_string(pack.join("pack.toml")).unwrap().replace("\"shopify\"", "\"till\"");
    // The scheme keeps its name.
    let toml = toml
        .replace("scheme = \"till\"", "scheme = \"shopify\"")
        .replace("signature = \"till\"", "signature = \"shopify\"");
    std::fs::write(pack.join("pack.toml"), toml).unwrap();
    run(folder.path(), &["check"]).expect(0);
    // A sample that is to become something else.
    let sample = std::fs::read_dir(pack.join("samples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".expected.json"))
        .min()
        .unwrap();
    let expected = std::fs::read_to_string(&sample).unwrap().replace("\"kind\": \"", "\"kind\": \"un");
    std::fs::write(&sample, expected).unwrap();
    let found = problems(folder.path());
    assert!(found.iter().any(|line| line.contains("packs/till/samples")), "{found:?}");
}

#[test]
fn every_built_in_pack_is_accepted_with_its_samples() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let source = format!("[sources.shop]\nsystem = \"shop\"\npack = \"{name}\"\nsecrets = [\"env:SHOP_SECRET\"]\n");
        run(folder(&source).path(), &["check"]).expect(0);
    }
}

fn copy_pack(name: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs").join(name);
    for inner in ["", "mappings", "samples"] {
        std::fs::create_dir_all(to.join(inner)).unwrap();
        for entry in std::fs::read_dir(from.join(inner))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
        {
            std::fs::copy(&entry, to.join(inner).join(entry.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_example_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let example = run(folder.path(), &["config", "example"]).expect(0);
    write(folder.path(), "lockstep.toml", &example.out);
    let ended = run(folder.path(), &["check"]).expect(0);
    assert!(
        ended
            .out
            .lines()
            .all(|line| line.contains("warning: the secret's variable") || line.contains("lockstep.toml: ok")),
        "{}",
        ended.out
    );
}

#[test]
fn without_a_file_there_is_nothing_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["check"]).expect(2);
    assert!(ended.err.contains("lockstep config example"), "{}", ended.err);
    let ended = run(folder.path(), &["--json", "check"]).expect(2);
    let error: serde_json::Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["code"], "configuration");
}
