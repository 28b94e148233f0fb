//! How long a translation takes: `cargo run --release -p lockstep-connect --example translate_speed`.
//!
//! The orders are the Shopify pack's own sample, as it is and without the amounts that it repeats in a second
//! currency, which makes it about as long as an average order.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use lockstep_connect::pack::Pack;
use lockstep_connect::schema::Schemas;
use lockstep_connect::translate::{Options, Translator};
use lockstep_core::InputBody;
use lockstep_mapping::{Value, from_json, write_json};

/// The allocator of the hub's binary.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: u32 = 1_000;
const ROUNDS: u32 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sample = include_str!("../../../packs/shopify/samples/orders_create.json");
    let whole: serde_json::Value = serde_json::from_str(sample)?;
    let mut short = whole.clone();
    without_sets(&mut short);
    let pack = Pack::builtin("shopify")?;
    let schemas = Arc::new(Schemas::builtin());
    let options = Options { source: "shop".into(), system: "shopify".into(), ..Options::default() };
    let translator = Translator::new(&pack, schemas.clone(), options).map_err(|errors| format!("{errors:?}"))?;
    let program = pack.compile().map_err(|errors| format!("{errors:?}"))?["orders/create"].clone();
    let meta = from_json(br#"{"channel":"web","topic":"orders/create","source":"shop","system":"shopify"}"#)?;
    let headers = HeaderMap::new();
    for (name, order) in [("short order", short), ("whole order", whole)] {
        let body = Bytes::from(serde_json::to_vec(&order)?);
        println!("{name}: {} bytes, us per order", body.len());
        each("bytes to serde_json's tree", || serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        each("bytes to the whole value", || from_json(&body).is_ok());
        each("bytes to what is read of it", || program.parse_shared(&body).is_ok());
        let value = program.parse_shared(&body)?;
        each("copying that", || !matches!(black_box(value.clone()), Value::Null));
        each("running the mapping, with that copy", || program.run_with(value.clone(), meta.clone()).is_ok());
        let output = program.run_with(value.clone(), meta.clone())?;
        let fields = output.as_object().and_then(|members| members.get("fields")).ok_or("no fields")?;
        each("validating", || schemas.validate_mapped("order", fields).is_ok());
        let mut written = Vec::new();
        each("writing the fields", || {
            written.clear();
            write_json(fields, &mut written);
            !written.is_empty()
        });
        each("writing the fields through serde", || serde_json::to_vec(fields).is_ok());
        println!("  ({} bytes of fields)", written.len());
        each("ALL OF IT: translate", || {
            matches!(translator.translate("orders/create", &headers, &body, 0), InputBody::Changes(_))
        });
    }
    Ok(())
}

/// The best of many short batches: what else runs on the machine can only make one slower.
fn each(what: &str, mut run: impl FnMut() -> bool) {
    let mut best_us = f64::INFINITY;
    for _ in 0..BATCHES {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            assert!(black_box(run()), "{what} failed");
        }
        best_us = best_us.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    println!("  {best_us:7.2}  {what}");
}

fn without_sets(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.retain(|name, _| !name.ends_with("_set"));
            members.values_mut().for_each(without_sets);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_sets),
        _ => {}
    }
}
