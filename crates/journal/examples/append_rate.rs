//! How fast this disk takes records: `cargo run --release -p lockstep-journal --example append_rate
//! [records] [records a batch] [bytes a record]`. Then how fast the journal opens after a crash.

use std::time::Instant;

use lockstep_journal::{Batch, Journal, SqliteJournal, SqliteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |or: usize| arguments.next().map_or(Ok(or), |text| text.parse());
    let (records, batch_len, record_bytes) = (number(1_000_000)?, number(1000)?, number(500)?);

    let dir = tempfile::tempdir()?;
    let mut journal = SqliteJournal::open(dir.path(), SqliteOptions::default())?;
    let mut batch = Batch::new();
    let mut text = String::new();
    let start = Instant::now();
    let mut slowest_ms = 0.0_f64;
    for first in (0..records).step_by(batch_len) {
        batch.clear();
        for n in first..records.min(first + batch_len) {
            // Like a real event: names that repeat, values that do not.
            text.clear();
            text.push_str(r#"{"kind":"order","source":"shop-eu","values":["#);
            while text.len() < record_bytes {
                let value = fastrand::u32(..);
                text.push_str(&format!(r#"{{"line":{n},"sku":"S-{value}","quantity":1}},"#));
            }
            batch.push(&text.as_bytes()[..record_bytes.min(text.len())]);
        }
        let append = Instant::now();
        journal.append(0, &batch)?;
        slowest_ms = slowest_ms.max(append.elapsed().as_secs_f64() * 1000.0);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.0} records/s, slowest append {slowest_ms:.1} ms", records as f64 / seconds);

    // Neither dropped nor closed, as after a crash.
    std::mem::forget(journal);
    let crashed = tempfile::tempdir()?;
    for entry in std::fs::read_dir(dir.path())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|n| !n.to_string_lossy().ends_with("-shm")) {
            std::fs::copy(&path, crashed.path().join(name))?;
        }
    }
    let start = Instant::now();
    let journal = SqliteJournal::open(crashed.path(), SqliteOptions::default())?;
    println!("opened {:?} in {:.1} ms", journal.bounds(), start.elapsed().as_secs_f64() * 1000.0);

    let (reader, start) = (journal.reader(), Instant::now());
    let mut position = 1;
    loop {
        let entries = reader.read(position, 4 << 20)?;
        let Some(last) = entries.last() else { break };
        position = last.position + 1;
    }
    println!("read {:.0} records/s", records as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
