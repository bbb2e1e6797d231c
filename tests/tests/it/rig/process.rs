//! A server in a process of its own: to be killed, limited or measured.

use super::http::{Answer, Wire, get_from, metric};
use super::{CAP, Cell};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_shardcast-under-test");

/// What a process is started with.
pub struct Plan {
    cell: Cell,
    data_dir: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    wrapper: Vec<String>,
}

impl Plan {
    /// A server with its data in a folder; its log goes beside it.
    pub fn new(cell: Cell, folder: &Path) -> Self {
        let mut arguments = Vec::new();
        for set in ["drain_time_s=1", "spool.segment_bytes=4194304", "server_name=test"] {
            arguments.extend(["--set".to_owned(), set.to_owned()]);
        }
        let (data_dir, log) = (folder.join("data"), folder.join("server.log"));
        Self { cell, data_dir, log, arguments, wrapper: Vec::new() }
    }

    /// Another data directory.
    pub fn data_dir(mut self, data_dir: &Path) -> Self {
        self.data_dir = data_dir.to_owned();
        self
    }

    /// A key of the configuration.
    pub fn set(mut self, setting: &str) -> Self {
        self.arguments.extend(["--set".to_owned(), setting.to_owned()]);
        self
    }

    /// A flag, with its value if it has one.
    pub fn flag(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// A program that starts the server, such as `prlimit`.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The whole command.
    pub fn command(&self) -> Command {
        let mut words: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        words.extend([PROGRAM, "serve"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        if !self.arguments.iter().any(|word| word == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !self.arguments.iter().any(|word| word == "--admin-listen") {
            command.args(["--admin-listen", "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(&self.data_dir);
        if !self.arguments.iter().any(|word| word == "--engine") {
            command.args(["--engine", self.cell.engine_name()]);
        }
        command.arg("--shards").arg(self.cell.shards.to_string()).args(&self.arguments);
        // Whoever runs the tests may have configured a server of their own.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHARDCAST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Process {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let before = log.metadata().expect("a file").len() as usize;
        let mut command = self.command();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut process = Process {
            child,
            log: self.log.clone(),
            address: UNKNOWN,
            admin: UNKNOWN,
            ended: false,
        };
        let start = Instant::now();
        loop {
            let log = process.log();
            let log = log.get(before..).unwrap_or_default();
            if let (Some(address), Some(admin)) =
                (field(log, " serving address="), field(log, " administration address="))
            {
                (process.address, process.admin) = (address, admin);
                return process;
            }
            let exited = process.child.try_wait().expect("a child of ours");
            assert!(exited.is_none(), "the server ended at once: {log}");
            assert!(start.elapsed() < CAP, "the server does not come up: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The address after a text in the log.
fn field(log: &str, label: &str) -> Option<SocketAddr> {
    let (_, rest) = log.rsplit_once(label)?;
    // A line that is not complete yet may end inside the address.
    let (line, _) = rest.split_once('\n')?;
    line.split(' ').next()?.parse().ok()
}

/// A running server. When it goes out of scope it is killed; it may not have ended by itself.
pub struct Process {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    ended: bool,
}

impl Process {
    /// A server with defaults.
    pub fn start(cell: Cell, folder: &Path) -> Self {
        Plan::new(cell, folder).start()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged, and those before it in the same folder.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        get_from(self.address, path)
    }

    /// Asks the admin listener.
    pub fn get_admin(&self, path: &str) -> Answer {
        get_from(self.admin, path)
    }

    pub fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.wire().post(path, content_type, body.as_ref())
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name)
    }

    /// Resident set, in bytes, from the kernel.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident set");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.ended = true;
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.ended = true;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(start.elapsed() < CAP, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended && !std::thread::panicking() {
            return;
        }
        let status = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        } else if let Some(status) = status {
            panic!("the server ended by itself ({status}): {}", self.log());
        }
    }
}

const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
