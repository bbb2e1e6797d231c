//! `shardcast serve` as a child, pinned, with a data directory of its own.

use crate::scenarios::Common;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that runs. Killed when dropped.
#[derive(Debug)]
pub struct ServerChild {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl ServerChild {
    /// Starts one on the server's core and waits until it is ready.
    pub fn start(common: &Common, data: &Path, settings: &[&str]) -> Result<Self> {
        Self::start_at(common, data, free_address()?, settings)
    }

    /// The same, at a given address.
    pub fn start_at(
        common: &Common,
        data: &Path,
        address: SocketAddr,
        settings: &[&str],
    ) -> Result<Self> {
        Self::start_on(common, data, address, settings, 1)
    }

    /// The same with so many shards: one on the server's core, several wherever there are cores.
    pub fn start_on(
        common: &Common,
        data: &Path,
        address: SocketAddr,
        settings: &[&str],
        shards: usize,
    ) -> Result<Self> {
        let program = common.server_program()?;
        let admin = free_address()?;
        let log = data.with_extension("log");
        let stderr = File::options().create(true).append(true).open(&log)?;
        let start = || {
            let mut command = Command::new(&program);
            command
                .args(["serve", "--engine", common.engine.name(), &format!("--shards={shards}")])
                .args([format!("--listen={address}"), format!("--admin-listen={admin}")])
                .arg("--data-dir")
                .arg(data)
                .args(settings.iter().flat_map(|setting| ["--set", setting]))
                .stdin(Stdio::null())
                .stderr(stderr);
            command.spawn().with_context(|| format!("cannot start {}", program.display()))
        };
        let child = if shards == 1 {
            crate::machine::on_core(common.server_core, start)?
        } else {
            start()?
        };
        let mut server = Self { child, address, admin, log };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < READY_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at start ({status}): {}", self.log_tail());
            }
            if self.get("/health/ready").is_ok_and(|answer| answer.contains(" 200 ")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server is not ready after {READY_TIMEOUT:?}: {}", self.log_tail())
    }

    /// A page of the admin listener, head included.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Begins a drain (SIGTERM).
    pub fn terminate(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log, for errors.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> =
            log.lines().rev().take(40).filter(|line| !line.contains("  at ")).collect();
        format!("the server's last words: {}", last.join(" | "))
    }
}

impl Drop for ServerChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that nobody listens on at the moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
