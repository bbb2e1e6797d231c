//! A shell script that does what `apply` does, for machines where the program is not, or for people
//! who want to read every line first.

use super::Subject;
use crate::action::Action;
use std::fmt::Write;

/// POSIX shell; `DRY_RUN=1` only says what it would do.
pub fn script(of: &Subject) -> String {
    let mut out = String::from("#!/bin/sh\n");
    out.push_str(&of.head("Sets what is needed until the next start of the machine. Run as root."));
    out.push_str(FUNCTIONS);
    let mut last = "";
    let mut by_hand = String::new();
    for (finding, action, needed) in of.actions() {
        if !needed {
            continue;
        }
        let (Some(path), Some(value)) = (action.path(), action.value()) else {
            if let Action::Manual { text } = action {
                let _ = writeln!(by_hand, "#   {}: {text}", finding.id);
            }
            continue;
        };
        if finding.id != last {
            let _ = writeln!(out, "\n# {}: required {}", finding.id, one_line(&finding.required));
            last = finding.id;
        }
        let _ = writeln!(out, "set_value {} {}", quoted(&path), quoted(value));
    }
    if !by_hand.is_empty() {
        let _ =
            write!(out, "\n# By hand, since they interrupt the network for a moment:\n{by_hand}");
    }
    out.push_str("\nexit \"$failed\"\n");
    out
}

const FUNCTIONS: &str = r#"
set -u
failed=0

# The file's value on one line; of a choice such as `none [bfq]` the chosen word.
current() {
    text=$(tr -s '[:space:]' ' ' < "$1" | sed 's/^ //; s/ $//')
    case $text in
        *\[*\]*) text=${text#*\[}; text=${text%%\]*} ;;
    esac
    printf '%s' "$text"
}

# plain FILE VALUE: the kernel writes masks with leading zeros and commas, and nothing else so.
plain() {
    case $1 in
        */rps_cpus | */xps_cpus) printf '%s' "$2" | tr -d ',' | sed 's/^0*\(.\)/\1/' ;;
        *) printf '%s' "$2" ;;
    esac
}

# set_value FILE VALUE: check, write, check again.
set_value() {
    if [ ! -e "$1" ]; then
        echo "left      $1: not there"
        failed=1
        return
    fi
    before=$(current "$1" 2> /dev/null) || before='(not readable)'
    if [ "$(plain "$1" "$before")" = "$(plain "$1" "$2")" ]; then
        echo "already   $1: $2"
    elif [ -n "${DRY_RUN:-}" ]; then
        echo "would     $1: $before -> $2"
    elif ! { printf '%s\n' "$2" > "$1"; } 2> /dev/null; then
        echo "FAILED    $1: $before -> $2 (root? a container?)"
        failed=1
    elif [ "$(plain "$1" "$(current "$1")")" != "$(plain "$1" "$2")" ]; then
        echo "FAILED    $1: the kernel says $(current "$1")"
        failed=1
    else
        echo "done      $1: $before -> $2"
    fi
}
"#;

/// In single quotes, whatever it has.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
