//! What happened, in order: a hash over every line, and the last lines for whoever has to read.

use std::collections::VecDeque;
use std::fmt;

/// Lines kept.
const LINES_MAX: usize = 80;

/// See the module.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    scratch: String,
    /// Every line goes to standard output, too.
    loud: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new(loud: bool) -> Self {
        let lines = VecDeque::new();
        Self { hash: 0xcbf2_9ce4_8422_2325, lines, scratch: String::new(), loud }
    }

    /// Notes a line.
    pub fn note(&mut self, now_ms: u64, line: fmt::Arguments<'_>) {
        use fmt::Write;
        self.scratch.clear();
        let _ = write!(self.scratch, "{now_ms:>7} {line}");
        for byte in self.scratch.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.loud {
            println!("{}", self.scratch);
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(self.scratch.clone());
    }

    /// Two runs with the same hash did the same.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
