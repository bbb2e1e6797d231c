//! Small programs for counting instructions: the paths that every delivery and every event takes.
//!
//! `counts NAME` runs one of them and prints what it did in units (deliveries, frames, events);
//! `counts` alone lists them. Under `valgrind --tool=callgrind --toggle-collect='*measured*'` only
//! what runs inside [`measured`] is counted, so setting up costs nothing. `cargo xtask counts` does
//! that for all and compares with `bench/counts.toml`.
//!
//! Invariants: the same program does the same work every time, to the instruction: seeds, times and
//! addresses are fixed, one thread, no I/O. Every program checks what came out before it prints,
//! so a broken path is an error and not a good figure. Deliberately absent: the kernel's work and
//! cache misses (the benchmark has them), time.

mod auth;
mod bed;
mod fanout;
mod heartbeat;
mod http2;
mod parsing;

use std::process::ExitCode;

// The product's allocator: what it does per event counts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A program; gives the units it did inside [`measured`].
struct Program {
    name: &'static str,
    unit: &'static str,
    run: fn() -> u64,
}

const fn program(name: &'static str, unit: &'static str, run: fn() -> u64) -> Program {
    Program { name, unit, run }
}

const PROGRAMS: &[Program] = &[
    program("fanout.one", "delivery", || fanout::channel(fanout::WS, 200, 1)),
    program("fanout.eight", "delivery", || fanout::channel(fanout::WS, 25, 8)),
    program("fanout.envelope", "delivery", || fanout::channel(fanout::ENVELOPE, 200, 1)),
    program("fanout.sse", "delivery", || fanout::channel(fanout::SSE, 200, 1)),
    program("fanout.rooms", "delivery", fanout::rooms),
    program("publish.ws", "event", fanout::publish),
    program("publish.http2", "event", http2::publish),
    program("heartbeat", "heartbeat", heartbeat::run),
    program("auth.hs256", "connect", auth::hs256),
    program("parse.http1", "head", parsing::http1),
    program("parse.ws", "frame", parsing::web_socket),
    program("parse.ndjson", "event", parsing::ndjson),
    program("parse.json", "event", parsing::json),
    program("encode.ws", "frame", parsing::encode_ws),
    program("encode.sse", "frame", parsing::encode_sse),
    program("encode.envelope", "frame", parsing::encode_envelope),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name] = arguments.as_slice() else {
        for program in PROGRAMS {
            println!("{} {}", program.name, program.unit);
        }
        return ExitCode::SUCCESS;
    };
    let Some(program) = PROGRAMS.iter().find(|program| program.name == name) else {
        eprintln!("counts: there is no program `{name}`; without a name they are listed");
        return ExitCode::FAILURE;
    };
    println!("{}", (program.run)());
    ExitCode::SUCCESS
}

/// Where instructions are counted. Its name is what the tool looks for, so it stays a function.
#[inline(never)]
fn measured<R>(run: impl FnOnce() -> R) -> R {
    run()
}
