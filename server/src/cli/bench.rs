//! `shardcast bench`: the benchmark is a program of its own, since it carries other engines and
//! servers to compare with; this starts the one that was built beside this one.

use super::args::BenchArgs;
use super::{exit, fail};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(super) fn run(args: &BenchArgs) -> u8 {
    let program = match std::env::current_exe() {
        Ok(own) => own.with_file_name("bench"),
        Err(error) => return fail(exit::INTERNAL, &format!("where am I? {error}")),
    };
    if !program.is_file() {
        let message = format!(
            "there is no {}: build it beside this program with `cargo build --release -p bench`, or \
             run `cargo xtask bench` in the source tree",
            program.display()
        );
        return fail(exit::UNAVAILABLE, &message);
    }
    // Becomes it: signals and the exit code are its own.
    let error = Command::new(&program).args(&args.arguments).exec();
    fail(exit::INTERNAL, &format!("cannot start {}: {error}", program.display()))
}
