//! Signature schemes against invented secrets, against flipped bits, and against the vectors of their authors.

use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_connect::pack::Pack;
use lockstep_connect::signature::{Scheme, SchemeError, Secret, SignatureError, Signer, Verifier};
use proptest::prelude::*;
use serde_json::{Value, json};

fn scheme(json: Value) -> Scheme {
    serde_json::from_value(json).unwrap()
}

fn verifier(scheme: &Scheme, secrets: &[&str]) -> Verifier {
    Verifier::new(scheme, secrets.iter().map(|s| Secret::new(*s)).collect()).unwrap()
}

fn map(headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    headers.into_iter().collect()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    map(pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())))
}

const OLD: &str = "whsec_bG9ja3N0ZXAgaW52ZW50ZWQgb2xkIHNlY3JldA==";
const NEW: &str = "whsec_bG9ja3N0ZXAgaW52ZW50ZWQgbmV3IHNlY3JldA";
const NOW_S: i64 = 1_790_000_000;

fn every_scheme() -> Vec<Scheme> {
    let hmac = |algorithm: &str, encoding: &str, prefix: &str, signed: &str, timestamp_header: Value| {
        scheme(json!({"scheme": "hmac", "header": "X-Signature", "algorithm": algorithm, "encoding": encoding,
            "prefix": prefix, "signed": signed, "timestamp_header": timestamp_header}))
    };
    vec![
        scheme(json!({"scheme": "shopify"})),
        scheme(json!({"scheme": "standard-webhooks"})),
        hmac("sha256", "hex", "sha256=", "{body}", Value::Null),
        hmac("sha512", "base64", "", "{header:x-id}:{header:x-time}:{body}", json!("x-time")),
        hmac("sha256", "base64", "v0 ", "v0:{body}", Value::Null),
        scheme(json!({"scheme": "timestamped", "header": "x-signature"})),
        scheme(json!({"scheme": "timestamped", "header": "x-signature", "time_name": "ts", "signature_name": "h1",
            "separator": ";", "joint": ":", "algorithm": "sha512", "encoding": "base64"})),
    ]
}

#[test]
fn computed_by_other_tools_once() {
    // Made with `openssl dgst -sha256 -hmac` / `-mac HMAC -macopt hexkey:`.
    let shopify = verifier(&scheme(json!({"scheme": "shopify"})), &["blue-heron-42"]);
    let body = br##"{"id":7001,"name":"#7001"}"##;
    let signed = headers(&[("x-shopify-hmac-sha256", "UCTQYw00wupJiXaSmYba3IEdPnE9i6s7V4VVZHbhmuA=")]);
    assert_eq!(shopify.verify(&signed, body, NOW_S), Ok(()));

    let standard = verifier(&scheme(json!({"scheme": "standard-webhooks"})), &[OLD]);
    let list = "v1,dLGzItW2nA2mGXKQ75cPUTJ6fRK+VI/JjOk3ouv3VCI=";
    for prefix in ["webhook", "svix"] {
        let name = |part: &str| HeaderName::try_from(format!("{prefix}-{part}")).unwrap();
        let value = HeaderValue::from_static;
        let signed = map([
            (name("id"), value("msg_7001")),
            (name("timestamp"), value("1790000000")),
            (name("signature"), value(list)),
        ]);
        assert_eq!(standard.verify(&signed, body, NOW_S + 300), Ok(()));
        assert_eq!(standard.verify(&signed, body, NOW_S - 300), Ok(()));
        let stale = Err(SignatureError::Stale { off_s: 301, tolerance_s: 300 });
        assert_eq!(standard.verify(&signed, body, NOW_S + 301), stale);
        assert_eq!(standard.verify(&signed, body, NOW_S - 301), stale);
    }
    assert_eq!(Signer::new(&[Secret::new(OLD)]).unwrap().sign("msg_7001", NOW_S, body), list);
}

fn woocommerce() -> Scheme {
    Pack::builtin("woocommerce").unwrap().signature().unwrap().clone()
}

#[test]
fn woocommerce_signs_deliveries_but_not_its_ping() {
    let verifier = verifier(&woocommerce(), &["blue-heron-42"]);
    // Made with `openssl dgst -sha256 -hmac`.
    let signed = headers(&[("x-wc-webhook-signature", "UCTQYw00wupJiXaSmYba3IEdPnE9i6s7V4VVZHbhmuA=")]);
    assert_eq!(verifier.verify(&signed, br##"{"id":7001,"name":"#7001"}"##, NOW_S), Ok(()));
    assert_eq!(verifier.verify(&signed, b"webhook_id=12", NOW_S).unwrap_err().code(), "wrong-signature");
    let ping = headers(&[("content-type", "application/x-www-form-urlencoded")]);
    assert_eq!(verifier.verify(&ping, b"webhook_id=12", NOW_S).unwrap_err().code(), "missing-signature");
}

#[test]
fn each_failure_has_its_code() {
    let standard = verifier(&scheme(json!({"scheme": "standard-webhooks"})), &[OLD]);
    let check = |pairs: &[(&'static str, &str)], code: &str| {
        let error = standard.verify(&headers(pairs), b"{}", NOW_S).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    };
    let (id, at) = (("webhook-id", "m1"), ("webhook-timestamp", "1790000000"));
    let own = Signer::new(&[Secret::new(OLD)]).unwrap().sign("m1", NOW_S, b"{}");
    let other = Signer::new(&[Secret::new(OLD)]).unwrap().sign("m2", NOW_S, b"{}");
    check(&[id, at], "missing-signature");
    check(&[id, ("webhook-signature", &own)], "missing-signature");
    check(&[at, ("webhook-signature", &own)], "missing-signature");
    check(&[id, at, ("webhook-signature", "")], "malformed-signature");
    check(&[id, at, ("webhook-signature", "v1,")], "malformed-signature");
    check(&[id, at, ("webhook-signature", &own.replace("v1,", "v1a,"))], "malformed-signature");
    check(&[id, at, ("webhook-signature", &own.replace("v1,", "v2,"))], "malformed-signature");
    check(&[id, at, ("webhook-signature", &other)], "wrong-signature");
    for time in ["", "+1790000000", "1790000000.0", "now", "99999999999999999999"] {
        check(&[id, ("webhook-timestamp", time), ("webhook-signature", &own)], "bad-timestamp");
    }
    check(&[id, ("webhook-timestamp", "946684800"), ("webhook-signature", &own)], "stale-timestamp");
    // A list is searched to its end, whatever else is in it.
    let list = format!("v1a,AAAA {other} v1,nonsense v9,x {own}");
    let signed = headers(&[id, at, ("webhook-signature", &list)]);
    assert_eq!(standard.verify(&signed, b"{}", NOW_S), Ok(()));
}

#[test]
fn a_rotation_accepts_both_secrets_and_signs_with_both() {
    for scheme in every_scheme() {
        let (old, new, both) = (verifier(&scheme, &[OLD]), verifier(&scheme, &[NEW]), verifier(&scheme, &[OLD, NEW]));
        for one in [&old, &new] {
            let signed = map(one.sign_headers("m1", NOW_S, b"body"));
            assert_eq!(both.verify(&signed, b"body", NOW_S), Ok(()), "{scheme:?}");
        }
        let signed = map(old.sign_headers("m1", NOW_S, b"body"));
        assert_eq!(new.verify(&signed, b"body", NOW_S).unwrap_err().code(), "wrong-signature", "{scheme:?}");
    }
    let several = [
        json!({"scheme": "standard-webhooks"}),
        json!({"scheme": "timestamped", "header": "x-s"}),
        json!({"scheme": "hmac", "header": "x-s", "prefix": "sha256=", "separator": ", "}),
        json!({"scheme": "hmac", "header": "x-s", "encoding": "base64", "separator": " "}),
        json!({"scheme": "hmac", "header": "x-s", "further_header": "x-s-next"}),
    ];
    for config in several {
        let scheme = scheme(config);
        let both = Verifier::signing_with_all(&scheme, vec![Secret::new(OLD), Secret::new(NEW)]).unwrap();
        let signed = map(both.sign_headers("m1", NOW_S, b"body"));
        for secret in [OLD, NEW] {
            assert_eq!(verifier(&scheme, &[secret]).verify(&signed, b"body", NOW_S), Ok(()), "{scheme:?}");
        }
        let other = verifier(&scheme, &["whsec_AAAA"]).verify(&signed, b"body", NOW_S);
        assert_eq!(other.unwrap_err().code(), "wrong-signature", "{scheme:?}");
    }
}

#[test]
fn who_could_not_sign_with_all_secrets_is_told() {
    let check = |config: Value, secrets: &[&str], part: &str| {
        let secrets = secrets.iter().map(|s| Secret::new(*s)).collect();
        let error = Verifier::signing_with_all(scheme(config), secrets).unwrap_err();
        assert!(matches!(error, SchemeError::Crowded { .. }) && error.to_string().contains(part), "{error}");
    };
    check(json!({"scheme": "hmac", "header": "x-s"}), &["a", "b"], "`signature.further_header`");
    check(json!({"scheme": "hmac", "header": "x-s", "further_header": "x-t"}), &["a", "b", "c"], "at most 2");
    check(json!({"scheme": "shopify"}), &["a", "b"], "there are 2 secrets");
    assert!(Verifier::signing_with_all(scheme(json!({"scheme": "shopify"})), vec![Secret::new("a")]).is_ok());
}

#[test]
fn a_header_of_parts_is_read_part_by_part() {
    // Made with `printf '1790000000.{"id":7001}' | openssl dgst -sha256 -hmac blue-heron-42`.
    let tag = "ce05dcc2a19369786fcd7dbae5e54a4848721426d357161425fe07428d6dfb14";
    let verifier = verifier(&scheme(json!({"scheme": "timestamped", "header": "x-s"})), &["blue-heron-42"]);
    let verify = |value: &str, now_s: i64| {
        let result = verifier.verify(&headers(&[("x-s", value)]), br#"{"id":7001}"#, now_s);
        result.err().map(|error| error.code())
    };
    assert_eq!(verify(&format!("t=1790000000,v1={tag}"), NOW_S), None);
    assert_eq!(verify(&format!("v0=ff, v1=00, v1={tag} ,t=1790000000"), NOW_S + 300), None);
    assert_eq!(verify(&format!("t=1790000000,v1={tag}"), NOW_S + 301), Some("stale-timestamp"));
    assert_eq!(verify(&format!("t=1790000001,v1={tag}"), NOW_S), Some("wrong-signature"));
    assert_eq!(verify(&format!("t=1790000000,v0={tag}"), NOW_S), Some("malformed-signature"));
    assert_eq!(verify(&format!("t=1790000000,t=1,v1={tag}"), NOW_S), Some("malformed-signature"));
    assert_eq!(verify(&format!("v1={tag}"), NOW_S), Some("malformed-signature"));
    assert_eq!(verify(&format!("t=now,v1={tag}"), NOW_S), Some("bad-timestamp"));
}

#[test]
fn a_timestamp_of_a_described_hmac_has_a_window() {
    let config = json!({"scheme": "hmac", "header": "x-signature", "signed": "{header:x-time}.{body}",
        "timestamp_header": "x-time", "tolerance_s": 10});
    let verifier = verifier(&scheme(config), &["s"]);
    let signed = map(verifier.sign_headers("", NOW_S, b"body"));
    assert_eq!(verifier.verify(&signed, b"body", NOW_S + 10), Ok(()));
    assert_eq!(verifier.verify(&signed, b"body", NOW_S + 11).unwrap_err().code(), "stale-timestamp");
}

#[test]
fn unusable_configuration_is_refused() {
    let refused = |config: Value, secrets: &[&str]| {
        Verifier::new(scheme(config), secrets.iter().map(|s| Secret::new(*s)).collect()).unwrap_err()
    };
    assert!(matches!(refused(json!({"scheme": "shopify"}), &[]), SchemeError::NoSecret { .. }));
    assert!(matches!(refused(json!({"scheme": "shopify"}), &["a", ""]), SchemeError::EmptySecret { number: 2, .. }));
    for secret in ["whsec_", "whsec_###", "not base64!"] {
        let error = refused(json!({"scheme": "standard-webhooks"}), &[secret]);
        assert!(matches!(error, SchemeError::SecretNotBase64 { number: 1, .. }), "{error}");
    }
    let hmac = |header: &str, signed: &str, time: Value| {
        refused(json!({"scheme": "hmac", "header": header, "signed": signed, "timestamp_header": time}), &["s"])
    };
    assert!(matches!(hmac("x y", "{body}", Value::Null), SchemeError::HeaderName { field: "header", .. }));
    for signed in ["", "{header:x-id}", "{body", "{nobody}", "{body}{header:x-id"] {
        assert!(matches!(hmac("x-s", signed, Value::Null), SchemeError::Template { .. }), "{signed}");
    }
    assert!(matches!(hmac("x-s", "{body}", json!("x-time")), SchemeError::Template { .. }));
    for separator in ["", "a", "=", "\n"] {
        let error = refused(json!({"scheme": "hmac", "header": "x-s", "separator": separator}), &["s"]);
        assert!(matches!(error, SchemeError::Separator { .. }), "{error}");
        let error = refused(json!({"scheme": "timestamped", "header": "x-s", "separator": separator}), &["s"]);
        assert!(matches!(error, SchemeError::Separator { .. }), "{error}");
    }
    let error = refused(json!({"scheme": "timestamped", "header": "x-s", "time_name": "t="}), &["s"]);
    assert_eq!(error.to_string(), "`time_name` must be letters and digits, not `t=`");

    for unknown in [
        json!({"scheme": "shopify", "secret": "x"}),
        json!({"scheme": "standard-webhooks", "tolerance": 1}),
        json!({"scheme": "hmac", "header": "x", "encodings": "hex"}),
        json!({"scheme": "md5"}),
        json!({}),
    ] {
        assert!(serde_json::from_value::<Scheme>(unknown.clone()).is_err(), "{unknown}");
    }
}

#[test]
fn nothing_prints_a_secret() {
    let secret = Secret::new(OLD);
    let signer = Signer::new(std::slice::from_ref(&secret)).unwrap();
    let verifier = verifier(&scheme(json!({"scheme": "shopify"})), &[OLD]);
    let printed = format!("{secret:?} {signer:?} {verifier:?}");
    assert!(!printed.contains(&OLD[6..]), "{printed}");
}

#[test]
fn schemes_have_names() {
    for name in ["shopify", "standard-webhooks"] {
        assert_eq!(Scheme::named(name), Some(scheme(json!({"scheme": name}))));
    }
    assert_eq!(Scheme::named("hmac"), None, "it needs at least a header");
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_one_flipped_bit_does_not(
        scheme in proptest::sample::select(every_scheme()),
        id in "[a-z0-9_]{1,20}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        key in proptest::collection::vec(any::<u8>(), 1..40),
        flip in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        use base64::Engine;
        let text = |key: &[u8]| base64::engine::general_purpose::STANDARD.encode(key);
        let own = verifier(&scheme, &[&text(&key)]);
        let signed = own.sign_headers(&id, NOW_S, &body);
        prop_assert_eq!(own.verify(&map(signed.clone()), &body, NOW_S), Ok(()));

        if !body.is_empty() {
            let mut other = body.clone();
            other[flip.index(body.len())] ^= 1 << bit;
            prop_assert!(own.verify(&map(signed.clone()), &other, NOW_S).is_err());
        }
        let mut longer = body.clone();
        longer.push(0);
        prop_assert!(own.verify(&map(signed.clone()), &longer, NOW_S).is_err());

        let mut other = key.clone();
        other[flip.index(key.len())] ^= 1 << bit;
        prop_assert!(verifier(&scheme, &[&text(&other)]).verify(&map(signed.clone()), &body, NOW_S).is_err());

        // Every header that was signed or carries the signature counts.
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            let mut bytes = changed[at].1.as_bytes().to_vec();
            let place = flip.index(bytes.len());
            let was = bytes[place];
            bytes[place] ^= 1 << bit;
            // Hexadecimal letters mean the same in both cases.
            if bytes[place].eq_ignore_ascii_case(&was) {
                continue;
            }
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                // Space around a value does not belong to it.
                if value.to_str().is_ok_and(|text| text.trim().len() == bytes.len()) {
                    changed[at].1 = value;
                    prop_assert!(own.verify(&map(changed), &body, NOW_S).is_err());
                }
            }
        }
    }
}

mod vectors {
    //! The vectors that the schemes' authors and their SDKs publish, where the folder with them is there.

    use super::*;

    fn read(name: &str) -> Option<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/signatures");
        let path = std::path::Path::new(path).join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
            Err(_) => {
                println!("skipped: {} is not there", path.display());
                None
            }
        }
    }

    /// Runs the vectors that are webhooks with a stated result; returns how many were.
    fn run(name: &str, scheme: &Scheme, headers_of: &str) -> Option<usize> {
        let file = read(name)?;
        let vectors = file.get("vectors").unwrap_or(&file).as_array().unwrap();
        let mut count = 0;
        for vector in vectors {
            let (Some(secret), Some(valid)) = (vector["secret"].as_str(), vector["valid"].as_bool()) else {
                continue;
            };
            let Some(pairs) = vector[headers_of].as_object() else {
                continue;
            };
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // `<now>` stands for the moment of the test.
            let text = |value: &Value| text(value).replace("<now>", &NOW_S.to_string());
            let signed = map(pairs.iter().map(|(name, value)| {
                (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(&text(value)).unwrap())
            }));
            // The vectors' times are fixed, so the clock is set to them.
            let at = signed.get("webhook-timestamp").or_else(|| signed.get("svix-timestamp"));
            let now_s = at.map_or(NOW_S, |at| at.to_str().unwrap().parse().unwrap());
            let body = vector["payload"].as_str().unwrap().as_bytes();
            let result = verifier(scheme, &[secret]).verify(&signed, body, now_s);
            assert_eq!(result.is_ok(), valid, "{}: {result:?}", vector["name"]);
            if let (Some(expected), "standard-webhooks.json") = (vector["expected_signature"].as_str(), name) {
                let id = signed.get("webhook-id").or_else(|| signed.get("svix-id")).unwrap().to_str().unwrap();
                let signer = Signer::new(&[Secret::new(secret)]).unwrap();
                assert_eq!(signer.sign(id, now_s, body), expected, "{}", vector["name"]);
            }
            count += 1;
        }
        Some(count)
    }

    #[test]
    fn shopify() {
        if let Some(count) = run("shopify.json", &scheme(json!({"scheme": "shopify"})), "headers") {
            assert_eq!(count, 6, "the three others sign a query, not a webhook");
        }
    }

    #[test]
    fn standard_webhooks() {
        let scheme = scheme(json!({"scheme": "standard-webhooks"}));
        if let Some(count) = run("standard-webhooks.json", &scheme, "headers") {
            assert_eq!(count, 7);
            assert_eq!(run("standard-webhooks.json", &scheme, "svix_headers"), Some(2));
        }
    }

    #[test]
    fn asymmetric_signatures_are_told_apart() {
        let Some(file) = read("standard-webhooks-ed25519.json") else {
            return;
        };
        let vectors = file.get("vectors").unwrap_or(&file).as_array().unwrap();
        let verifier = verifier(&scheme(json!({"scheme": "standard-webhooks"})), &[OLD]);
        for vector in vectors.iter().filter(|v| v["valid"] == true) {
            let signed = map(vector["headers"].as_object().unwrap().iter().map(|(name, value)| {
                (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
            }));
            let now_s = signed["webhook-timestamp"].to_str().unwrap().parse().unwrap();
            let error = verifier.verify(&signed, vector["payload"].as_str().unwrap().as_bytes(), now_s).unwrap_err();
            assert_eq!(error.code(), "malformed-signature");
        }
    }

    #[test]
    fn github_as_a_described_hmac() {
        let config = json!({"scheme": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="});
        if let Some(count) = run("github.json", &scheme(config), "headers") {
            assert_eq!(count, 1);
        }
    }

    #[test]
    fn woocommerce_as_its_pack_describes_it() {
        if let Some(count) = run("woocommerce.json", &woocommerce(), "headers") {
            assert_eq!(count, 2, "the third one's secret is not published");
        }
    }
}
