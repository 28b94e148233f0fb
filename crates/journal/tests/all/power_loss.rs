//! A disk that loses its power at any moment keeps each append that was acknowledged.
//!
//! What a child does to its files is recorded in its order. From that come the files as a crash could leave them: all
//! that was synced, and any part of what was written since.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Bounds, Journal};

use crate::child;
use crate::support::{copy_of, open_with_steps, segment, segments, wal};

const CHILD: &str = "power_loss::child_appends_while_it_is_recorded";
const APPENDS: usize = 300;
const CRASHES: usize = 100;
const SECTOR: usize = 512;

#[test]
fn child_appends_while_it_is_recorded() {
    let Some(dir) = child::dir(CHILD) else { return };
    let acknowledged = dir.join("acknowledged");
    let mut journal = open_with_steps(&dir.join("journal"));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..APPENDS {
        append(&mut journal, random.u64(1..60));
        fs::write(&acknowledged, journal.bounds().next.to_string()).unwrap();
        // Some steps have the disk for themselves, so that the log is written from its beginning soon after.
        while random.u8(..) < 40 && journal.is_moving() {
            std::thread::yield_now();
        }
    }
    assert_eq!(segments(&dir.join("journal")), [1]);
    // As a crash leaves it.
    std::mem::forget(journal);
    println!("the child is done");
}

/// One call of the child's.
#[derive(Clone, Debug)]
enum Call {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Sync,
}

impl Call {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Truncate(length) => bytes.resize(*length, 0),
            Self::Sync => {}
        }
    }

    fn is_log_header(&self) -> bool {
        matches!(self, Self::Write(0, header) if header.len() == 32)
    }
}

/// Reads what the library wrote: each call, and the file that it was for.
fn recorded(trace: &Path) -> Vec<(char, Call)> {
    let bytes = fs::read(trace).unwrap();
    let mut rest = bytes.as_slice();
    let mut calls = Vec::new();
    while let [what, file, tail @ ..] = rest {
        let number = |at: usize| u64::from_le_bytes(tail[at..at + 8].try_into().unwrap()) as usize;
        let (at, length) = (number(0), number(8));
        let data = &tail[16..16 + length];
        let call = match what {
            b'w' => Call::Write(at, data.to_vec()),
            b't' => Call::Truncate(at),
            _ => Call::Sync,
        };
        calls.push((char::from(*file), call));
        rest = &tail[16 + length..];
    }
    calls
}

/// A file of which a crash keeps what was synced.
#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    since: Vec<Call>,
}

impl Disk {
    fn take(&mut self, call: &Call) {
        self.since.push(call.clone());
        if matches!(call, Call::Sync) {
            for call in self.since.drain(..) {
                call.apply(&mut self.synced);
            }
        }
    }

    /// What there is after a crash that keeps those of the later calls, or those parts of them, that `keep` gives.
    fn after(&self, mut keep: impl FnMut(&Call) -> Vec<Call>) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        self.since.iter().flat_map(&mut keep).for_each(|call| call.apply(&mut bytes));
        bytes
    }
}

/// The sectors of a write, as far as chance keeps them.
fn some_sectors(call: &Call) -> Vec<Call> {
    let Call::Write(at, data) = call else { return some(call) };
    let mut kept = Vec::new();
    let mut from = 0;
    while from < data.len() {
        let end = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(data.len());
        if fastrand::bool() {
            kept.push(Call::Write(at + from, data[from..end].to_vec()));
        }
        from = end;
    }
    kept
}

fn some(call: &Call) -> Vec<Call> {
    if fastrand::bool() { vec![call.clone()] } else { Vec::new() }
}

fn all(call: &Call) -> Vec<Call> {
    vec![call.clone()]
}

fn none(_: &Call) -> Vec<Call> {
    Vec::new()
}

/// Opens what a crash left, which has what was acknowledged and no more than the append that was going on.
fn check_crash(base: &Path, files: &BTreeMap<char, Vec<u8>>, acknowledged: u64, what: &str) {
    let crashed = copy_of(base);
    fs::write(segment(crashed.path(), 1), &files[&'s']).unwrap();
    fs::write(wal(crashed.path(), 1), &files[&'l']).unwrap();
    let mut journal = open_with_steps(crashed.path());
    let next = journal.bounds().next;
    assert!((acknowledged..acknowledged + 60).contains(&next), "{what}: {acknowledged} acknowledged, {next} there");
    check_all(&*journal.reader(), Bounds { first: 1, next });
    append(&mut journal, 5);
}

#[test]
fn every_acknowledged_append_survives_a_loss_of_power_at_any_call() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = child::preload(dir.path(), "disk_trace", include_str!("disk_trace.c")) else { return };
    let folder = dir.path().join("journal");
    drop(open_with_steps(&folder));
    let base = copy_of(&folder);
    let trace = dir.path().join("trace");
    let mut command = child::command(CHILD, dir.path());
    let output = command.env("LD_PRELOAD", library).env("LOCKSTEP_TEST_TRACE", &trace).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the child is done"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));

    let calls = recorded(&trace);
    let is_header = |(file, call): &(char, Call)| *file == 'l' && call.is_log_header();
    let restarts = calls.iter().filter(|call| is_header(call)).count();
    assert!(restarts > 5, "the log was written from its beginning {restarts} times");
    let mut crashes: Vec<usize> = (0..CRASHES).map(|_| fastrand::usize(..calls.len())).collect();
    crashes.sort_unstable();

    let mut disks = BTreeMap::from([('s', Disk::default()), ('l', Disk::default())]);
    disks.insert('s', Disk { synced: fs::read(segment(base.path(), 1)).unwrap(), since: Vec::new() });
    let mut acknowledged = 1;
    for (index, (file, call)) in calls.iter().enumerate() {
        if let (Some(disk), call) = (disks.get_mut(file), call) {
            disk.take(call);
        } else if let Call::Write(_, text) = call {
            acknowledged = std::str::from_utf8(text).unwrap().parse().unwrap();
        }
        let files = |keep: fn(&Call) -> Vec<Call>| disks.iter().map(|(file, disk)| (*file, disk.after(keep))).collect();
        // The header of a log that is written from its beginning, torn: all before it is in the main file by then.
        if is_header(&(*file, call.clone())) {
            for _ in 0..2 {
                let length = fastrand::usize(1..32);
                let cut = |call: &Call| match call {
                    Call::Write(0, header) => vec![Call::Write(0, header[..length].to_vec())],
                    other => vec![other.clone()],
                };
                let files = disks.iter().map(|(file, disk)| (*file, disk.after(cut))).collect();
                check_crash(base.path(), &files, acknowledged, &format!("call {index}, {length} bytes of the header"));
            }
        }
        for _ in crashes.iter().filter(|crash| **crash == index) {
            let (name, keep): (_, fn(&Call) -> Vec<Call>) = fastrand::choice([
                ("none", none as _),
                ("all", all as _),
                ("some", some as _),
                ("sectors", some_sectors as _),
            ])
            .unwrap();
            check_crash(base.path(), &files(keep), acknowledged, &format!("call {index} of {}, {name}", calls.len()));
        }
    }
}
