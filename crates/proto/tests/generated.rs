//! The generated code is what the `.proto` files say. It is kept, so that building the hub needs neither a compiler of
//! those files nor the crates that generate code; `LOCKSTEP_WRITE_GOLDEN=1 cargo test -p lockstep-proto` makes it anew.

use std::path::{Path, PathBuf};

use prost::Message;
use protox::prost_reflect::prost_types::FileDescriptorSet;

const REWRITE: &str = "LOCKSTEP_WRITE_GOLDEN=1 cargo test -p lockstep-proto --test generated";

fn protos() -> (PathBuf, Vec<PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let folder = root.join("lockstep/v1");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "proto")).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    (root, files)
}

fn descriptors() -> FileDescriptorSet {
    let (root, files) = protos();
    protox::compile(files, [root]).unwrap_or_else(|error| panic!("{error:?}"))
}

#[track_caller]
fn compare(name: &str, made: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated").join(name);
    if std::env::var_os("LOCKSTEP_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(kept == made, "src/generated/{name} is not what proto/ says: {REWRITE}");
}

#[test]
fn the_code_is_what_the_definitions_say() {
    let folder = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(folder.path())
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors())
        .unwrap();
    compare("lockstep.v1.rs.in", &std::fs::read(folder.path().join("lockstep.v1.rs")).unwrap());
}

#[test]
fn the_descriptors_are_what_the_definitions_say() {
    let mut descriptors = descriptors();
    // What reflection tells needs no comments.
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    compare("lockstep.v1.binpb", &descriptors.encode_to_vec());
}

#[test]
fn everything_in_the_definitions_is_documented() {
    let (_, files) = protos();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut before = "";
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            let first = line.split_whitespace().next().unwrap_or_default();
            let field = line.contains(" = ") && line.ends_with(';') && first != "syntax";
            let of_type = matches!(first, "service" | "rpc" | "enum");
            // A value that is never sent needs no words.
            let plain = line.starts_with("//") || line.ends_with("_UNSPECIFIED = 0;");
            let one = (field || of_type) && !plain;
            assert!(!one || before.starts_with("//"), "{}:{}: say what `{line}` is", file.display(), at + 1);
            assert!(line.len() <= 120, "{}:{}: longer than 120", file.display(), at + 1);
            before = line;
        }
    }
}
