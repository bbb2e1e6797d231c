//! `shardcast serve`: a server until it is told to stop.

use super::args::ServeArgs;
use super::{exit, fail, signals};
use crate::boot::Server;
use crate::config::{self, Sources, whole};
use crate::log;
use std::path::Path;

/// Runs the server; returns the exit code.
pub fn run(args: &ServeArgs) -> u8 {
    let sources = args.flags.sources();
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    log::init(&loaded.config.log);
    warn_if_left_out(&sources);
    let running = match Server::start_with(loaded.config, crate::page::page()) {
        Ok(running) => running,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    if let Err(error) = signals::on_stop(running.drain_handle()) {
        log::warn("signals are not handled; stop with the admin listener", &[("error", &error)]);
    }
    running.join().exit_code()
}

/// A file that lies there looks as if it were read, and what stands in it may be the keys.
fn warn_if_left_out(sources: &Sources) {
    let usual = Path::new("shardcast.toml");
    if sources.file.is_none() && usual.exists() {
        log::warn(
            "this file is not read: name it, with `--config shardcast.toml` or in SHARDCAST_CONFIG",
            &[("file", &whole(usual))],
        );
    }
}
