//! Log lines on standard error: a time, a level, a message, keys and values.
//!
//! A line is written where something is handled, once. Remote text cannot forge lines or steer a
//! terminal: control characters are escaped in both formats. Whatever a client can cause goes
//! through a [`Limit`], and what that suppresses is counted.
//!
//! Deliberately absent: spans, targets, filters by module, files, rotation (the supervisor of the
//! process does that). Writing may block when standard error does, so shards log only around start
//! and end and through limits.

use crate::config::{Log, LogFormat, LogLevel};
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A key and its value.
pub type Field<'a> = (&'a str, &'a dyn Display);

/// Sets format and level, once per process; later calls change nothing.
pub fn init(log: &Log) {
    let _ = SETTINGS.set(log.clone());
}

/// A person must look.
pub fn error(message: &str, fields: &[Field]) {
    write(LogLevel::Error, message, fields);
}

/// A person should look, some day.
pub fn warn(message: &str, fields: &[Field]) {
    write(LogLevel::Warn, message, fields);
}

/// What an operator wants to have seen.
pub fn info(message: &str, fields: &[Field]) {
    write(LogLevel::Info, message, fields);
}

/// For developers.
pub fn debug(message: &str, fields: &[Field]) {
    write(LogLevel::Debug, message, fields);
}

/// Lines that were not written because of a [`Limit`].
pub fn suppressed_lines() -> u64 {
    SUPPRESSED.load(Relaxed)
}

fn write(level: LogLevel, message: &str, fields: &[Field]) {
    let (format, threshold) =
        SETTINGS.get().map_or((LogFormat::Text, LogLevel::Info), |log| (log.format, log.level));
    if level > threshold {
        return;
    }
    let time = jiff::Timestamp::now();
    let line = match format {
        LogFormat::Text => text_line(time, level, message, fields),
        LogFormat::Json => json_line(time, level, message, fields),
    };
    // Nobody is left to tell when standard error is gone.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

fn text_line(time: jiff::Timestamp, level: LogLevel, message: &str, fields: &[Field]) -> String {
    let mut line = format!("{time:.3} {:<5} ", name(level).to_ascii_uppercase());
    escape_into(&mut line, message, false);
    for (key, value) in fields {
        let value = value.to_string();
        let quoted = value.is_empty() || value.contains([' ', '"', '=', '\\']);
        let _ = write!(line, " {key}=");
        if quoted {
            line.push('"');
        }
        escape_into(&mut line, &value, quoted);
        if quoted {
            line.push('"');
        }
    }
    line.push('\n');
    line
}

fn json_line(time: jiff::Timestamp, level: LogLevel, message: &str, fields: &[Field]) -> String {
    let mut line = format!("{{\"time\":\"{time:.3}\",\"level\":\"{}\",\"message\":\"", name(level));
    escape_into(&mut line, message, true);
    line.push('"');
    for (key, value) in fields {
        let _ = write!(line, ",\"{key}\":\"");
        escape_into(&mut line, &value.to_string(), true);
        line.push('"');
    }
    line.push_str("}\n");
    line
}

/// Appends text in which no character starts a line, moves a cursor or, with `quoted`, ends a
/// string. The escapes are those of JSON.
fn escape_into(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '"' | '\\' if quoted => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // C0, DEL, C1; line and paragraph separators; direction overrides.
            c if c.is_control()
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Text that is safe on a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text, false);
    out
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

/// At most so many lines a second; meant for a `static` beside the line it guards. Several threads
/// may pass a little more at the turn of a second, never more than each a line.
pub struct Limit {
    lines_per_s: u64,
    /// The second (after the first use of any limit) and the lines in it, packed.
    window: AtomicU64,
    suppressed: AtomicU64,
}

impl Limit {
    /// A limit.
    pub const fn new(lines_per_s: u32) -> Self {
        Self {
            lines_per_s: lines_per_s as u64,
            window: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Writes a warning, or counts it as suppressed.
    pub fn warn(&self, message: &str, fields: &[Field]) {
        self.write(LogLevel::Warn, message, fields);
    }

    /// Writes for developers, or counts it as suppressed.
    pub fn debug(&self, message: &str, fields: &[Field]) {
        self.write(LogLevel::Debug, message, fields);
    }

    fn write(&self, level: LogLevel, message: &str, fields: &[Field]) {
        let start = *START.get_or_init(Instant::now);
        let Some(skipped) = self.admit(start.elapsed().as_secs()) else { return };
        if skipped == 0 {
            return write(level, message, fields);
        }
        let mut fields = fields.to_vec();
        fields.push(("suppressed", &skipped));
        write(level, message, &fields);
    }

    /// `Some` with the number of lines suppressed since the last one, `None` to suppress this one.
    fn admit(&self, second: u64) -> Option<u64> {
        let window = self.window.load(Relaxed);
        let count = if window >> 32 == second { window & u64::from(u32::MAX) } else { 0 };
        if count >= self.lines_per_s {
            self.suppressed.fetch_add(1, Relaxed);
            SUPPRESSED.fetch_add(1, Relaxed);
            return None;
        }
        self.window.store(second << 32 | (count + 1), Relaxed);
        Some(self.suppressed.swap(0, Relaxed))
    }
}

static SETTINGS: OnceLock<Log> = OnceLock::new();
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);
static START: OnceLock<Instant> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\r\nERROR forged\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\"\\";

    #[test]
    fn remote_text_cannot_forge_a_line_or_steer_a_terminal() {
        let time = jiff::Timestamp::UNIX_EPOCH;
        for line in [
            text_line(time, LogLevel::Warn, HOSTILE, &[("path", &HOSTILE)]),
            json_line(time, LogLevel::Warn, HOSTILE, &[("path", &HOSTILE)]),
        ] {
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            let body = line.trim_end_matches('\n');
            assert!(!body.contains(char::is_control), "{line:?}");
            assert!(!body.contains(['\u{2028}', '\u{202e}']), "{line:?}");
        }
    }

    #[test]
    fn a_json_line_is_json_with_the_text_intact() {
        let line = json_line(jiff::Timestamp::UNIX_EPOCH, LogLevel::Info, "up", &[("k", &HOSTILE)]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["k"], HOSTILE);
        assert_eq!(value["level"], "info");
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_text_line_quotes_only_what_needs_it() {
        let fields: &[Field] = &[("a", &1), ("b", &"x y"), ("c", &""), ("d", &"q=\"1\"")];
        let line = text_line(jiff::Timestamp::UNIX_EPOCH, LogLevel::Info, "up", fields);
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000Z INFO  up a=1 b=\"x y\" c=\"\" d=\"q=\\\"1\\\"\"\n"
        );
    }

    #[test]
    fn what_is_over_the_rate_is_counted_and_reported_with_the_next_line() {
        let limit = Limit::new(2);
        assert_eq!(limit.admit(5), Some(0));
        assert_eq!(limit.admit(5), Some(0));
        assert_eq!(limit.admit(5), None);
        assert_eq!(limit.admit(5), None);
        assert_eq!(limit.admit(6), Some(2));
        assert_eq!(limit.admit(6), Some(0));
        assert_eq!(limit.admit(6), None);
    }
}
