//! A program that listens on a port: started on a core, waited for, killed when dropped.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it prints goes to the log.
    pub fn start(core: usize, mut command: Command, port: u16, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = crate::machine::on_core(core, || {
            command.spawn().with_context(|| format!("cannot start {name}"))
        })?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut program = Self { child, address, log: log.to_owned() };
        program.wait_until_it_listens(&name)?;
        Ok(program)
    }

    fn wait_until_it_listens(&mut self, name: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < LISTEN_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended at start ({status}): {}", self.last_words());
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{name} does not listen after {LISTEN_TIMEOUT:?}: {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        last.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
