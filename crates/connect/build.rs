//! Embeds every pack of the `packs` folder, so that a new pack needs no Rust.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../packs").canonicalize()?;
    let mut list = String::from("&[\n");
    println!("cargo::rerun-if-changed={}", root.display());
    for pack in sorted(&root)?.into_iter().filter(|path| path.is_dir()) {
        writeln!(list, "    ({:?}, &[", name(&pack)?)?;
        let mut files = Vec::new();
        walk(&pack, &mut files)?;
        for file in files {
            let relative = file.strip_prefix(&pack)?.components();
            let relative: Vec<_> = relative.map(|part| part.as_os_str().to_string_lossy()).collect();
            let path = file.to_str().ok_or("a pack's path must be UTF-8")?;
            writeln!(list, "        ({:?}, include_bytes!({path:?})),", relative.join("/"))?;
        }
        list.push_str("    ]),\n");
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("packs.rs"), list)?;
    Ok(())
}

/// The files of a pack: what `Pack::load` would read of the folder.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    // A folder is named too: cargo then notices files that are added and removed.
    println!("cargo::rerun-if-changed={}", folder.display());
    for path in sorted(folder)? {
        if path.is_dir() {
            walk(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|end| ["toml", "vrl", "json", "headers"].iter().any(|known| end == *known))
        {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<&str, &'static str> {
    path.file_name().and_then(|name| name.to_str()).ok_or("a pack's name must be UTF-8")
}
