//! `shardcast config`.

use super::args::ConfigArgs;
use super::{exit, fail};
use crate::config::budget::{Budget, Facts};
use crate::config::{self, reference};
use std::io::Write;
use tuning::Machine;

pub(super) fn run(args: &ConfigArgs) -> u8 {
    if let Some(page) = args.reference {
        return print(&page.text());
    }
    let mut loaded = match config::load(&args.flags.sources()) {
        Ok(loaded) => loaded,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    if !args.limits {
        return print(&reference::effective(&loaded));
    }
    // As a start would: the budget is derived from the raised limit.
    if let Err(error) = tuning::raise_nofile() {
        eprintln!("shardcast: cannot raise the descriptor limit ({error}); using the current one");
    }
    let machine = Machine::read();
    if let Err(error) = crate::boot::cores::place(&mut loaded.config, &machine) {
        return fail(exit::CONFIG, &error.to_string());
    }
    match Budget::derive(&loaded.config, Facts::new(&loaded.config, &machine)) {
        Ok(budget) => print(&budget.to_string()),
        Err(error) => fail(exit::CONFIG, &error.to_string()),
    }
}

/// A reader that closed the pipe has what it wanted.
fn print(text: &str) -> u8 {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    exit::OK
}
