//! The file destination on real disks.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use futures_util::future::join_all;
use lockstep_connect::destination::kit::{self, Behaviour, Peer, Received};
use lockstep_connect::destination::{Destination, Filter, Outlet, Sent};
use lockstep_connectors::DestinationConfig;
use lockstep_connectors::webhook::chain;
use lockstep_core::delivery::AttemptResult;
use lockstep_mapping::Program;
use serde_json::{Value, json};

use crate::child;

fn built(folder: &Path, more: Value) -> Box<dyn Destination> {
    let mut config = json!({"kind": "file", "folder": folder, "timeout_ms": 60_000});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: DestinationConfig = serde_json::from_value(config).unwrap();
    let mut outlet = Outlet::new("/hubs/test", Filter::default());
    if let Some(source) = more["mapping"].as_str() {
        outlet = outlet.with_mapping(Program::compile("maps/file.vrl", source).unwrap());
    }
    config.build(&[], outlet).map_err(|error| chain(&error)).unwrap()
}

async fn send(destination: &dyn Destination, position: u64) -> Sent {
    let event = kit::event(position, "order", &format!("web:{position}"), &[("note", r#""a\nb \u00e4""#)]);
    let prepared = destination.prepare(&event).unwrap().unwrap();
    destination.send(&prepared, 1).await
}

async fn deliver(destination: &dyn Destination, positions: impl IntoIterator<Item = u64>) {
    for sent in join_all(positions.into_iter().map(|position| send(destination, position))).await {
        assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    }
}

/// The same with a destination of its own, as after a restart.
async fn deliver_anew(folder: &Path, more: Value, position: u64) {
    let destination = built(folder, more);
    // The thread of the one before ends a moment after it.
    while send(destination.as_ref(), position).await.detail.contains("somebody else writes") {
        tokio::task::yield_now().await;
    }
}

/// The files in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// All lines of all files. Each must be whole.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files(folder) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", file.display());
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

fn ids(folder: &Path) -> Vec<u64> {
    let id = |line: String| serde_json::from_str::<Value>(&line).unwrap()["id"].as_str().unwrap().parse().unwrap();
    lines(folder).into_iter().map(id).collect()
}

/// A folder that can be taken away.
struct Folder {
    path: PathBuf,
    aside: PathBuf,
}

#[async_trait]
impl Peer for Folder {
    async fn behave(&self, behaviour: Behaviour) {
        let is_folder = self.path.is_dir();
        match behaviour {
            Behaviour::Fail if is_folder => {
                fs::rename(&self.path, &self.aside).unwrap();
                fs::write(&self.path, "no folder").unwrap();
            }
            Behaviour::Accept if self.aside.is_dir() => {
                fs::remove_file(&self.path).unwrap();
                fs::rename(&self.aside, &self.path).unwrap();
            }
            _ => {}
        }
    }

    async fn received(&self) -> Vec<Received> {
        let folder = if self.path.is_dir() { &self.path } else { &self.aside };
        let received = |line: String| {
            let id = serde_json::from_str::<Value>(&line).unwrap()["id"].as_str().unwrap().to_owned();
            Received { id, body: line.into() }
        };
        lines(folder).into_iter().map(received).collect()
    }

    /// A disk takes lines or fails. Nor has it a line that it failed to take.
    fn can(&self, _behaviour: Behaviour) -> bool {
        false
    }
}

#[tokio::test]
async fn keeps_to_the_contract_of_all_destinations() {
    let folder = tempfile::tempdir().unwrap();
    let peer = Folder { path: folder.path().join("out"), aside: folder.path().join("aside") };
    let destination = built(&peer.path, json!({}));
    kit::check(destination.as_ref(), &peer).await;

    peer.behave(Behaviour::Fail).await;
    let sent = send(destination.as_ref(), 900).await;
    assert_eq!(sent.result, AttemptResult::Transient);
    assert!(sent.detail.starts_with("the file can't be written: ") && !sent.detail.contains('\n'), "{}", sent.detail);
    peer.behave(Behaviour::Accept).await;
    deliver(destination.as_ref(), [900]).await;
    assert_eq!(files(&peer.path).len(), 1, "it goes on with the file that was there");
    assert_eq!(ids(&peer.path).last(), Some(&900));
}

#[tokio::test]
async fn a_line_has_the_events_id() {
    let folder = tempfile::tempdir().unwrap();
    deliver(built(folder.path(), json!({"prefix": "a"})).as_ref(), [41]).await;
    let mapped = built(folder.path(), json!({"prefix": "b", "mapping": "[.data.key, .data.document.note]"}));
    deliver(mapped.as_ref(), [42]).await;
    let [event, mapped] = &lines(folder.path())[..] else { panic!("two lines") };
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!((&event["id"], &event["type"]), (&json!("41"), &json!("order.changed")));
    assert_eq!(mapped, r#"{"id":"42","data":["web:42","a\nb ä"]}"#);
}

#[tokio::test]
async fn files_are_rotated_by_size_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let small = built(folder.path(), json!({"rotate_bytes_max": 2_000, "mapping": "\"0123456789\""}));
    deliver(small.as_ref(), 1..=500).await;
    let written = files(folder.path());
    assert!(written.len() > 5, "{written:?}");
    assert!(written.iter().all(|file| (1..=2_000).contains(&fs::metadata(file).unwrap().len())));
    assert_eq!(ids(folder.path()).iter().collect::<BTreeSet<_>>().len(), 500);
    drop(small);

    // An old file is not gone on with, a young one is, also after a restart.
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("events-20010101T000000.000Z.jsonl");
    fs::write(&old, "{\"id\":\"1\"}\n").unwrap();
    fs::write(folder.path().join("events-20010101.jsonl.gz"), "someone's").unwrap();
    for position in [2, 3] {
        deliver_anew(folder.path(), json!({"rotate_after_s": 86_400}), position).await;
    }
    assert_eq!(files(folder.path()).len(), 3);
    assert_eq!(fs::read_to_string(&old).unwrap(), "{\"id\":\"1\"}\n");
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("events-20010101T000000.000Z.jsonl");
    fs::write(&old, "{\"id\":\"1\"}\n").unwrap();
    deliver(built(folder.path(), json!({"rotate_after_s": 0})).as_ref(), [2]).await;
    assert_eq!(files(folder.path()), [old]);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_nothing_else() {
    for torn in [String::new(), "{\"id\":\"3\",\"no".to_owned(), "\0".repeat(300_000)] {
        let folder = tempfile::tempdir().unwrap();
        deliver(built(folder.path(), json!({})).as_ref(), [1]).await;
        let file = files(folder.path()).remove(0);
        let whole = fs::read_to_string(&file).unwrap();
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(torn.as_bytes()).unwrap();
        deliver_anew(folder.path(), json!({}), 2).await;
        assert_eq!(ids(folder.path()), [1, 2]);
        assert!(fs::read_to_string(&file).unwrap().starts_with(&whole));
    }
    // All of a file may be one torn line.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events-20990101T000000.000Z.jsonl"), "{\"id\":\"1\"").unwrap();
    deliver(built(folder.path(), json!({})).as_ref(), [2]).await;
    assert_eq!((ids(folder.path()), files(folder.path()).len()), (vec![2], 1));
}

#[tokio::test]
async fn a_file_that_was_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let destination = built(folder.path(), json!({}));
    deliver(destination.as_ref(), [1]).await;
    fs::remove_file(&files(folder.path())[0]).unwrap();
    deliver(destination.as_ref(), [2]).await;
    assert_eq!(ids(folder.path()), [2]);
}

#[tokio::test]
async fn two_destinations_do_not_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (built(folder.path(), json!({})), built(folder.path(), json!({})));
    deliver(one.as_ref(), [1]).await;
    let sent = send(other.as_ref(), 2).await;
    assert_eq!(sent.result, AttemptResult::Transient);
    assert!(sent.detail.contains("somebody else writes"), "{}", sent.detail);
    assert_eq!(ids(folder.path()), [1]);
}

#[test]
fn a_full_disk_passes_by() {
    child::on_a_small_disk("file::child_fills_the_disk");
}

#[tokio::test]
async fn child_fills_the_disk() {
    let Some(disk) = child::folder("file::child_fills_the_disk") else { return };
    let out = disk.join("out");
    let destination = built(&out, json!({"rotate_bytes_max": 300_000}));
    let (mut delivered, mut position, mut refused, mut sum) = (BTreeSet::new(), 0, 0, 0);
    let filler = disk.join("filler");
    for round in 0..10 {
        // Some room is left, another amount each time, so that writing stops within a line, and at a new file.
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(round * 3 * 4096)).unwrap();
        // A file that is open keeps its room, also when it is removed.
        drop(file);
        loop {
            let positions: Vec<u64> = (position..position + 40).collect();
            position += 40;
            let all = join_all(positions.iter().map(|position| send(destination.as_ref(), *position))).await;
            let before = refused;
            for (position, sent) in positions.into_iter().zip(all) {
                match sent.result {
                    AttemptResult::Delivered => drop(delivered.insert(position)),
                    result => {
                        assert_eq!(result, AttemptResult::Transient);
                        assert!(sent.detail.starts_with("the disk is full: "), "{}", sent.detail);
                        refused += 1;
                    }
                }
            }
            if refused > before {
                break;
            }
        }
        assert_eq!(ids(&out).into_iter().collect::<BTreeSet<_>>(), delivered, "what was refused is not there");
        // There is room again, and the next line finds it by itself.
        fs::remove_file(&filler).unwrap();
        let complete = files(&out).len().saturating_sub(1);
        for file in &files(&out)[..complete] {
            fs::remove_file(file).unwrap();
        }
        let kept = ids(&out);
        deliver(destination.as_ref(), [position]).await;
        assert_eq!(ids(&out), [&kept[..], &[position]].concat());
        sum += delivered.len();
        delivered = ids(&out).into_iter().collect();
        position += 1;
    }
    println!("the child is done: {sum} lines, {refused} refused");
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for _ in 0..3 {
        let mut command = child::command("file::child_writes_until_it_is_killed", folder.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut told = told.by_ref().filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        let until = acknowledged + 100;
        acknowledged = told.find(|position| *position >= until).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = told.last().unwrap_or(acknowledged);
    }
    // Opening cuts off what the last kill has torn.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let last = acknowledged + 10_000_000;
    runtime.block_on(deliver(built(folder.path(), json!({})).as_ref(), [last]));
    let ids = ids(folder.path());
    let there: BTreeSet<_> = ids.iter().copied().collect();
    let lost: Vec<_> = (1..=acknowledged).filter(|position| !there.contains(position)).collect();
    assert_eq!(lost, Vec::<u64>::new());
    assert_eq!(ids.last(), Some(&last));
}

#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Some(folder) = child::folder("file::child_writes_until_it_is_killed") else { return };
    let first = lines_whole(&folder) + 1;
    let destination = built(&folder, json!({"rotate_bytes_max": 20_000}));
    for position in (first..).step_by(10) {
        deliver(destination.as_ref(), position..position + 10).await;
        println!("acknowledged {}", position + 9);
    }
}

/// The highest id in whole lines, also where the last one is torn.
fn lines_whole(folder: &Path) -> u64 {
    let texts = files(folder).into_iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
    let id = |line: &str| serde_json::from_str::<Value>(line).ok()?["id"].as_str()?.parse::<u64>().ok();
    texts.flat_map(|text| text.lines().filter_map(id).collect::<Vec<_>>()).max().unwrap_or(0)
}

#[test]
fn configuration_says_what_would_be_right() {
    let check = |more: Value, part: &str| {
        let mut config = json!({"kind": "file", "folder": "out"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: DestinationConfig = serde_json::from_value(config).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(part), "{more}: {error}");
    };
    check(json!({"folder": ""}), "`folder` must not be empty");
    check(json!({"prefix": "a/b"}), "`prefix` must be");
    check(json!({"rotate_bytes_max": 0}), "`rotate_bytes_max` must be from 1");
    check(json!({"timeout_ms": 0}), "`timeout_ms` must be from 1");
    check(json!({"concurrency_max": 10_001}), "`concurrency_max` must be from 1 to 10000");

    let mut config: DestinationConfig = serde_json::from_value(json!({"kind": "file", "folder": "out"})).unwrap();
    config.set_base(Path::new("/etc/lockstep"));
    let DestinationConfig::File(config) = &config else { panic!("a file") };
    assert_eq!(config.folder, "/etc/lockstep/out");
}
