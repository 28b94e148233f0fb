//! How memory is asked of the system.
//!
//! What a hub knows lies all over its memory, and most of what an input costs is looking there. With pages of 4 kB each look
//! takes another one into the page tables first, in a virtual machine into those of both systems. With large pages a hub
//! takes a tenth more in, and takes about a tenth more memory for it.
//!
//! The allocator reads its options before `main`, from its environment only.

use std::env;
use std::ffi::OsString;
use std::process::Command;

/// What the allocator is told: to ask for large pages, and to keep what was freed for a second (milliseconds), since giving
/// back a part of a large page takes it apart.
const OPTIONS: [(&str, &str); 2] = [("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1"), ("MIMALLOC_PURGE_DELAY", "1000")];

/// Has the process begin anew, as it was called, with large pages. Does nothing where one of the options is set already, by
/// hand or because it has begun anew.
pub(crate) fn use_large_pages() {
    if cfg!(target_os = "linux") && OPTIONS.iter().all(|(name, _)| env::var_os(name).is_none()) {
        begin_anew();
    }
}

#[cfg(unix)]
fn begin_anew() {
    use std::os::unix::process::CommandExt;

    let mut arguments = env::args_os();
    let called: OsString = arguments.next().unwrap_or_default();
    let Ok(program) = env::current_exe() else { return };
    // It only comes back where that can't be done (the file was replaced since): then with small pages.
    let _ = Command::new(program).arg0(called).args(arguments).envs(OPTIONS).exec();
}

#[cfg(not(unix))]
fn begin_anew() {}
