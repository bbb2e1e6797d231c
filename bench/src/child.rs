//! A child process of this program that takes a line and answers with a line of JSON.

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running child; it is killed when this is dropped.
#[derive(Debug)]
pub struct LineChild {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl LineChild {
    /// Starts this program again with other arguments, pinned to a core.
    pub fn start(core: usize, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = crate::machine::on_core(core, || {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().context("cannot start a child")
        })?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// The next answer.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("a child of the benchmark ended; its error is above");
        }
        serde_json::from_str(&line).with_context(|| format!("answer of a child: {line}"))
    }

    /// Gives an order without waiting for its answer.
    pub fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.stdin, "{order}")?;
        Ok(self.stdin.flush()?)
    }

    /// Gives an order and waits for its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, order: &str) -> Result<T> {
        self.order(order)?;
        self.answer()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LineChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
