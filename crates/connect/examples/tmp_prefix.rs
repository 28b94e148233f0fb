//! temp
use std::hint::black_box;
use std::time::Instant;
use lockstep_mapping::{Program, from_json};
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let src = std::fs::read_to_string(path).unwrap();
    let body = include_bytes!("../../../packs/shopify/samples/orders_create.json");
    let bb = bytes::Bytes::from_static(body);
    let meta = from_json(br#"{"channel":"web"}"#).unwrap();
    let full = Program::compile("x", &src).unwrap();
    let v = full.parse_shared(&bb).unwrap();
    let mut last = 0.0;
    let blocks: Vec<&str> = src.split("\n\n").collect();
    for n in 1..=blocks.len() {
        let part = blocks[..n].join("\n\n");
        let part = if n == blocks.len() { part } else { part + "\n1" };
        let p = match Program::compile("x", &part) { Ok(p) => p, Err(e) => { println!("{n}: {}", e.rendered); continue } };
        let mut best = f64::INFINITY;
        for _ in 0..1000 {
            let b = Instant::now();
            for _ in 0..20 { black_box(p.run_with(v.clone(), meta.clone()).is_ok()); }
            best = best.min(b.elapsed().as_secs_f64() * 1e6 / 20.0);
        }
        println!("{best:7.2} +{:6.2} {}", best - last, blocks[n-1].lines().find(|l| !l.starts_with('#')).unwrap_or(""));
        last = best;
    }
}
