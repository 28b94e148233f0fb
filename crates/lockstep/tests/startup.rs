//! What keeps a hub from starting: one clear sentence and exit code 2.

mod common;

use std::net::TcpListener;

use common::{Hub, folder, lockstep, run, write};

/// Runs `serve` where it can't start.
#[track_caller]
fn refused(folder: &std::path::Path, args: &[&str], words: &[&str]) {
    let args: Vec<_> = ["serve"].iter().chain(args).copied().collect();
    let ended = run(folder, &args).expect(2);
    assert_eq!(ended.out, "", "nothing listens, so nothing says so");
    let last = ended.err.lines().last().unwrap_or_default();
    assert!(last.starts_with("lockstep: "), "{}", ended.err);
    for word in words {
        assert!(last.contains(word), "`{word}` is not in: {last}");
    }
}

#[test]
fn a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = folder("");
    refused(folder.path(), &["--listen", &address], &["can't listen on", &address, "another process"]);
    // And it has let go of the data folder.
    Hub::start(folder.path());
}

#[test]
fn a_configuration_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["--config", "nowhere.toml"], &["nowhere.toml", "can't be read"]);
}

#[test]
fn a_configuration_that_is_not_toml() {
    let folder = folder("[hub\nname = \"x\"\n");
    refused(folder.path(), &[], &["lockstep.toml:1:"]);
}

#[test]
fn a_secret_that_is_not_set() {
    let folder =
        folder("[sources.shop]\nsystem = \"shop\"\npack = \"shopify\"\nsecrets = [\"env:NEVER_SET_ANYWHERE\"]\n");
    refused(folder.path(), &[], &["lockstep.toml:4:12", "NEVER_SET_ANYWHERE", "is not set"]);
}

#[test]
fn a_data_folder_in_use_by_another_process() {
    let folder = folder("");
    let _running = Hub::start(folder.path());
    refused(folder.path(), &["--listen", "127.0.0.1:0"], &["lockstep-data", "is in use by another process"]);
}

#[test]
fn a_data_folder_that_can_not_be_made() {
    let folder = folder("[hub]\ndata_dir = \"taken\"\n");
    write(folder.path(), "taken", "a file");
    refused(folder.path(), &[], &["data folder", "taken"]);
}

#[test]
fn a_data_folder_of_an_unknown_format() {
    let folder = folder("");
    let data = folder.path().join("lockstep-data");
    std::fs::create_dir_all(&data).unwrap();
    let state = rusqlite::Connection::open(data.join("state.sqlite")).unwrap();
    state.pragma_update(None, "user_version", 99).unwrap();
    drop(state);
    refused(folder.path(), &[], &["state.sqlite", "has format 99", "this version knows"]);
}

#[test]
fn a_state_file_that_is_broken() {
    let folder = folder("");
    write(folder.path(), "lockstep-data/state.sqlite", &"no database ".repeat(1_000));
    refused(folder.path(), &[], &["lockstep-data/state.sqlite", "can't be used: ", "move it away to have it rebuilt"]);
}

#[test]
fn an_address_that_is_none() {
    let folder = folder("");
    let expected = "`--listen` must be an address and a port such as 127.0.0.1:7070, not \"nonsense\"";
    refused(folder.path(), &["--listen", "nonsense"], &[expected]);
}

#[test]
fn a_filter_of_logs_that_is_none() {
    let folder = folder("");
    let ended =
        common::finish(lockstep().current_dir(folder.path()).arg("serve").env("LOCKSTEP_LOG", "hub=loud")).expect(2);
    assert!(ended.err.contains("LOCKSTEP_LOG"), "{}", ended.err);
}

#[test]
fn without_a_configuration_it_starts_with_the_defaults_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path());
    assert!(folder.path().join("lockstep-data").is_dir());
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    assert!(logs.contains("there is no lockstep.toml in this folder: starting with the defaults"), "{logs}");
}

#[test]
fn logs_can_be_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(folder.path(), &["--json", "serve", "--log-format", "json", "--listen", &address]).expect(2);
    let lines: Vec<serde_json::Value> = ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["error"]["code"], "listen");
    assert!(lines.iter().any(|line| line["level"] == "WARN"), "{}", ended.err);
}
