//! `shardcast serve`: a server until it is told to stop.

use super::args::ServeArgs;
use super::{exit, fail, signals};
use crate::boot::Server;
use crate::config;
use crate::log;

/// Runs the server; returns the exit code.
pub fn run(args: &ServeArgs) -> u8 {
    let loaded = match config::load(&args.flags.sources()) {
        Ok(loaded) => loaded,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    log::init(&loaded.config.log);
    let running = match Server::start_with(loaded.config, crate::page::page()) {
        Ok(running) => running,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    if let Err(error) = signals::on_stop(running.drain_handle()) {
        log::warn("signals are not handled; stop with the admin listener", &[("error", &error)]);
    }
    running.join().exit_code()
}
