//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once, because a
//! person who presses Ctrl-C twice means it (exit code 128 and the signal, as shells have it).

use crate::log;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Once;

/// Calls `stop` on the first signal, on a thread of its own. Once per process.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    assert!(!INSTALLED.is_completed(), "signals are handled by one server per process");
    INSTALLED.call_once(|| {});
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let watch = move || {
        let mut arrived = signals.forever();
        let Some(first) = arrived.next() else { return };
        log::info("stopping; a second signal stops at once", &[("signal", &name(first))]);
        stop();
        if let Some(second) = arrived.next() {
            log::warn("stopping without finishing the drain", &[("signal", &name(second))]);
            std::process::exit(128 + second);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}

fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_first_signal_asks_for_a_stop_and_does_not_kill() {
        let (sender, stopped) = channel();
        on_stop(move || sender.send(()).unwrap()).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        stopped.recv().unwrap();
    }
}
