//! The demo as a whole: the page in Chromium, real events, the button, the verdict.

use crate::rig::child;
use crate::rig::process::PROGRAM;
use std::path::Path;

/// Enough to see that everybody comes back, and little enough for a debug build.
const CLIENTS: &str = "500";

#[test]
fn a_kill_by_the_button_on_the_page_loses_and_doubles_nothing() {
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium = chromium.into_iter().find(|path| Path::new(path).is_file());
    let chromium =
        chromium.expect("there is no Chromium: run `cargo xtask test`, which installs it");
    let mut script = child::client("demo.mjs");
    script.arg(PROGRAM).arg(CLIENTS).arg(child::target().join("page")).env("CHROMIUM", chromium);
    let printed = child::run(&mut script);
    let verdict = format!("kill 1: resumed {CLIENTS} of {CLIENTS}, lost 0, doubled 0");
    assert!(printed.contains(&verdict), "{printed}");
}
