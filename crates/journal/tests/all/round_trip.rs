//! Any batches come back as they were, from any place, with any limit.

use lockstep_journal::{Batch, Entry, Journal, MemoryJournal, SqliteJournal, SqliteOptions};
use proptest::collection::vec;
use proptest::prelude::*;

type Records = Vec<Vec<u8>>;

fn batches() -> impl Strategy<Value = Vec<Records>> {
    let record = prop_oneof![vec(any::<u8>(), 0..40), vec(0..2_u8, 0..3000)];
    vec(vec(record, 1..12), 0..12)
}

fn check(journal: &mut dyn Journal, batches: &[Records], from: usize, bytes_max: usize) {
    let mut all: Vec<Entry> = Vec::new();
    for records in batches {
        let mut batch = Batch::new();
        records.iter().for_each(|record| batch.push(record));
        let first = journal.append(0, &batch).unwrap();
        assert_eq!(first, all.len() as u64 + 1);
        all.extend((first..).zip(records).map(|(position, record)| Entry { position, record: record.clone().into() }));
    }
    let reader = journal.reader();
    let mut index = from.min(all.len());
    loop {
        let entries = reader.read(index as u64 + 1, bytes_max).unwrap();
        assert_eq!(entries, all[index..index + entries.len()]);
        if entries.is_empty() {
            break;
        }
        index += entries.len();
    }
    assert_eq!(index, all.len());
    for entry in &all {
        assert_eq!(reader.get(entry.position).unwrap().as_ref(), Some(entry));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn batches_come_back(
        batches in batches(),
        from in 0..40_usize,
        bytes_max in 0..20_000_usize,
        segment_bytes_max in 0..60_000_u64,
    ) {
        check(&mut MemoryJournal::with_segment_bytes_max(segment_bytes_max as usize), &batches, from, bytes_max);
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions { segment_bytes_max, ..SqliteOptions::default() };
        let mut journal = SqliteJournal::open(dir.path(), options).unwrap();
        check(&mut journal, &batches, from, bytes_max);
        drop(journal);
        let records = batches.iter().flatten();
        let report = SqliteJournal::verify(dir.path()).unwrap();
        prop_assert_eq!(report.batches, batches.len() as u64);
        prop_assert_eq!(report.records, records.clone().count() as u64);
        prop_assert_eq!(report.bytes, records.map(|record| record.len() as u64).sum::<u64>());
    }
}
