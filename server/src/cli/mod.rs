//! The command line: parse, then hand over to one file per subcommand.
//!
//! Errors go to standard error and say what to do next; results go to standard output, so that
//! they can be piped. Exit codes are those of sysexits.h where one fits, see [`exit`].
//!
//! Deliberately absent: reading configuration anywhere but in [`crate::config`], a tokio runtime
//! (`publish` and `tail` are blocking programs over one socket).

pub mod args;
mod bench;
mod capacity;
pub(crate) mod client;
mod configure;
mod key;
mod publish;
mod reference;
mod serve;
pub mod signals;
mod storage;
mod tail;
mod tune;

use args::{Cli, Command};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program and says how it should exit.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Asking for help is not an error; clap knows which stream is right.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    ExitCode::from(match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => crate::demo::run(&args),
        Command::DemoClients(args) => crate::demo::clients::run(&args),
        Command::DemoServer(args) => crate::demo::server::become_server(&args.arguments),
        Command::Publish(args) => publish::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Config(args) => configure::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Storage(args) => storage::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Capacity(args) => capacity::run(&args),
        Command::Bench(args) => bench::run(&args),
    })
}

/// Exit codes.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// Some events were refused.
    pub const SOME_REFUSED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 64;
    /// The server cannot be reached, or took nothing.
    pub const UNAVAILABLE: u8 = 69;
    /// A shard died, or another fault of ours.
    pub const INTERNAL: u8 = 70;
    /// The configuration or the machine does not allow a start.
    pub const CONFIG: u8 = 78;
}

/// Says what went wrong and gives the exit code.
fn fail(code: u8, message: &str) -> u8 {
    for line in message.lines() {
        eprintln!("shardcast: {line}");
    }
    code
}
