//! The `lockstep` binary. Everything is in the library beside it.

use std::process::ExitCode;

/// Many small allocations a second on several threads: the system's allocator is slower and keeps more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockstep::main()
}
