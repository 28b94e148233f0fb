//! Commands that need no hub, and documents that must stay true.

mod common;

use std::path::{Path, PathBuf};

use common::{Ended, folder, lockstep, run, write};
use serde_json::Value;

#[test]
fn what_is_signed_is_verified_and_nothing_else_is() {
    let folder = folder("");
    write(folder.path(), "body.json", "{\"a\":1}");
    write(folder.path(), "key", "whsec_c2VjcmV0LW9mLXRoZS1lcnA=\n");
    for scheme in [
        &["--scheme", "shopify", "--secret", "env:SHOP_SECRET"][..],
        &["--scheme", "standard-webhooks", "--secret", "file:key"],
        &["--scheme", "hmac", "--secret", "env:SHOP_SECRET", "--hmac-header", "x-sign", "--hmac-prefix", "v1="],
    ] {
        let sign: Vec<_> =
            ["webhook", "sign", "--at", "1700000000", "body.json"].into_iter().chain(scheme.iter().copied()).collect();
        let headers = run(folder.path(), &sign).expect(0).out;
        let verify = |body: &str, headers: &str, at: &str| {
            let headers: Vec<String> = headers.lines().map(|line| line.replacen(": ", "=", 1)).collect();
            let mut args = vec!["webhook", "verify", "--at", at, body];
            args.extend(scheme);
            headers.iter().for_each(|header| args.extend(["--header", header]));
            run(folder.path(), &args)
        };
        assert_eq!(verify("body.json", &headers, "1700000000").expect(0).out, "authentic\n");
        write(folder.path(), "other.json", "{\"a\":2}");
        assert!(verify("other.json", &headers, "1700000000").expect(1).out.contains("wrong-signature"));
        assert!(verify("body.json", "", "1700000000").expect(1).out.contains("missing-signature"));
        if scheme.contains(&"standard-webhooks") {
            assert!(verify("body.json", &headers, "1700001000").expect(1).out.contains("stale-timestamp"));
        }
    }
}

#[test]
fn a_body_can_come_from_standard_input_and_the_answer_can_be_json() {
    let folder = folder("");
    write(folder.path(), "body.json", "{}");
    let signed = run(
        folder.path(),
        &["--json", "webhook", "sign", "--scheme", "shopify", "--secret", "env:SHOP_SECRET", "body.json"],
    )
    .expect(0)
    .json();
    let signature = signed["headers"]["x-shopify-hmac-sha256"].as_str().unwrap();
    let verified = lockstep()
        .current_dir(folder.path())
        .args(["--json", "webhook", "verify", "--scheme", "shopify", "--secret", "env:SHOP_SECRET", "--header"])
        .arg(format!("x-shopify-hmac-sha256={signature}"))
        .stdin(std::fs::File::open(folder.path().join("body.json")).unwrap())
        .output()
        .unwrap();
    assert_eq!(Ended::of(verified).expect(0).json()["authentic"], true);
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_printed() {
    let folder = folder("");
    let ended =
        run(folder.path(), &["webhook", "sign", "--scheme", "shopify", "--secret", "hush-hush", "lockstep.toml"])
            .expect(2);
    assert!(ended.err.contains("env:NAME") && !ended.err.contains("hush-hush"), "{}", ended.err);
    run(
        folder.path(),
        &["webhook", "sign", "--scheme", "shopify", "--secret", "env:NEVER_SET_ANYWHERE", "lockstep.toml"],
    )
    .expect(2);
    let ended =
        run(folder.path(), &["webhook", "sign", "--scheme", "hmac", "--secret", "env:SHOP_SECRET", "lockstep.toml"])
            .expect(2);
    assert!(ended.err.contains("--hmac-header"), "{}", ended.err);
}

#[test]
fn a_command_line_that_is_not_understood_is_one_sentence_of_json_where_that_is_asked_for() {
    let message = |args: &[&str]| {
        let ended = run(Path::new("."), &[args, &["--json"]].concat()).expect(2);
        assert_eq!(ended.out, "");
        let error: Value = serde_json::from_str(&ended.err).unwrap_or_else(|error| panic!("{error}: {}", ended.err));
        assert_eq!(error["error"]["code"], "usage");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    let said = message(&["quarantine", "show", "abc"]);
    assert!(said.contains("'abc'") && said.ends_with("a position is a whole number"), "{said}");
    let said = message(&["key", "create", "--scopes", "read"]);
    assert!(said.contains("--name <NAME>") && !said.contains('\n') && !said.contains("Usage"), "{said}");
    let said = message(&["key", "create", "--name", "x", "--scopes", "raed"]);
    assert!(said.ends_with("a scope is one of read, write, operate, admin; did you mean `read`?"), "{said}");
    assert_eq!(message(&["key"]), "a command is missing: `--help` lists them");
    let plain = run(Path::new("."), &["quarantine", "show", "abc"]).expect(2);
    assert!(plain.err.starts_with("error: ") && plain.err.contains("a position is a whole number"), "{}", plain.err);
    run(Path::new("."), &["--json", "--version"]).expect(0);
}

#[test]
fn the_system_of_a_key_has_a_name_that_can_stand_anywhere() {
    let folder = folder("");
    let create =
        |system| run(folder.path(), &["key", "create", "--name", "x", "--scopes", "write", "--system", system]);
    assert!(create("My ERP").expect(2).err.contains("a system's name must be 1 to 64 characters"));
    create("erp.eu_1-2").expect(0);
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_schema_of_the_configuration_is_the_committed_one() {
    let schema = run(Path::new("."), &["config", "schema"]).expect(0).out;
    let golden = docs().join("config.schema.json");
    if std::env::var_os("LOCKSTEP_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&golden, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap();
    assert!(
        committed == schema,
        "docs/config.schema.json is not what the types say: LOCKSTEP_WRITE_GOLDEN=1 writes it, the difference belongs into the review"
    );
    let schema: Value = serde_json::from_str(&schema).unwrap();
    undescribed(&schema, "");
}

/// Every field of the configuration says what it is for.
fn undescribed(schema: &Value, path: &str) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let tag = property.get("const").is_some();
        assert!(tag || property.get("description").is_some(), "{path}.{name} has no description");
        undescribed(property, &format!("{path}.{name}"));
    }
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        undescribed(definition, name);
    }
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        undescribed(variant, path);
    }
}

/// The fenced blocks of a document in a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(docs().join(document)).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_example_of_the_documentation_is_accepted() {
    let examples = blocks("configuration.md", "toml");
    // Mappings begin with a comment that says what they are called.
    let mappings: Vec<_> = blocks("configuration.md", "coffee")
        .into_iter()
        .map(|text| (text.lines().next().unwrap().trim_start_matches("# ").to_owned(), text))
        .collect();
    assert!(examples.len() >= 5, "{} examples", examples.len());
    for example in examples {
        let folder = folder(&example);
        write(
            folder.path(),
            "maps/market.vrl",
            "{ \"kind\": \"order\", \"key\": string!(.id), \"fields\": { \"note\": .note } }\n",
        );
        write(folder.path(), "maps/to-wms.vrl", "{ \"order\": .data.key }\n");
        for (name, text) in &mappings {
            write(folder.path(), name, text);
        }
        write(folder.path(), "maps/only-germany.vrl", ".data.document.shipping_address.country == \"DE\"\n");
        write(folder.path(), "maps/to-on-call.vrl", ".data.document.to == \"on-call\"\n");
        write(folder.path(), "maps/of-the-shop.vrl", ".data.document.source == \"shop\"\n");
        write(
            folder.path(),
            "schemas/loyalty.json",
            "{ \"type\": \"object\", \"properties\": { \"points\": { \"type\": \"integer\" } } }\n",
        );
        let ended = run(folder.path(), &["check"]);
        assert_eq!(ended.code, 0, "{}\nof:\n{example}", ended.out);
    }
}

#[test]
fn every_command_is_documented() {
    let text = std::fs::read_to_string(docs().join("cli.md")).unwrap();
    let help = |args: &[&str]| run(Path::new("."), &[args, &["--help"]].concat()).expect(0).out;
    let commands = |help: &str| -> Vec<String> {
        let list = help.split("Commands:\n").nth(1).unwrap_or_default();
        let names = list
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    };
    let all = commands(&help(&[]));
    assert!(all.len() >= 9, "{all:?}");
    for command in all {
        let inner = commands(&help(&[&command]));
        let names = if inner.is_empty() {
            vec![command.clone()]
        } else {
            inner.iter().map(|name| format!("{command} {name}")).collect()
        };
        for name in names {
            assert!(text.contains(&format!("`lockstep {name}")), "docs/cli.md does not have `lockstep {name}`");
        }
    }
}

/// What the table of guarantees names: tests, each with its file.
fn named_tests() -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string(docs().join("guarantees.md")).unwrap();
    let links =
        text.split("[`").skip(1).filter_map(|rest| rest.split_once("`](../")?.1.split_once(')').map(|to| (rest, to.0)));
    links.map(|(rest, path)| (rest.split('`').next().unwrap().to_owned(), docs().join("..").join(path))).collect()
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let text = std::fs::read_to_string(docs().join("guarantees.md")).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")).collect();
    assert!(rows.len() >= 25, "{} rows", rows.len());
    for row in rows {
        assert!(row.contains("[`"), "no test is named: {row}");
    }
    for (name, path) in named_tests() {
        let code = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        let begins = |line: &str| {
            let rest = line.trim_start_matches("async ").strip_prefix("fn ");
            rest.and_then(|rest| rest.strip_prefix(name.as_str())).is_some_and(|rest| rest.starts_with('('))
        };
        let at = lines.iter().position(|line| begins(line));
        let at = at.unwrap_or_else(|| panic!("{} has no test {name}", path.display()));
        // Attributes and comments stand between it and what makes it a test.
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_test = above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        assert!(is_test, "{name} in {} is no test", path.display());
    }
}
