//! The program: see `server::cli`.

use std::process::ExitCode;

// Shards allocate and free on their own threads, often across them (frames); mimalloc is made for
// that pattern and gives memory back. Built without transparent huge pages: half of a huge page is
// soon nobody's, the resident set doubles, and nothing was faster for it (docs/adr/0006).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    server::cli::run(std::env::args_os())
}
