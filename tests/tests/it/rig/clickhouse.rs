//! A real ClickHouse in a process of its own, to be killed, started again and held up.
//!
//! `tests/clients/clickhouse_engine.py` makes the server, and `cargo xtask test` installs what it
//! loads. The process dies with the thread that started it, so start it from the test's own thread.

use super::message::exchange;
use super::{CAP, child, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;
use tempfile::TempDir;

/// A ClickHouse with a folder of its own. When it goes out of scope it is killed.
pub struct ClickHouse {
    child: Option<Child>,
    folder: TempDir,
    users: Vec<String>,
    has_volumes: bool,
    address: SocketAddr,
}

impl ClickHouse {
    /// One on a free port, with the user `default` who needs no password.
    pub fn start() -> Self {
        Self::with_users(&[])
    }

    /// One with further users: name and password.
    pub fn with_users(users: &[(&str, &str)]) -> Self {
        Self::launch(users, false)
    }

    /// One with the storage policy `tiered`: the volumes `hot` and `cold`, a disk each.
    pub fn with_volumes() -> Self {
        Self::launch(&[], true)
    }

    fn launch(users: &[(&str, &str)], has_volumes: bool) -> Self {
        let mut server = Self {
            has_volumes,
            child: None,
            folder: tempfile::tempdir().expect("a temporary folder"),
            users: users.iter().map(|(name, password)| format!("{name}:{password}")).collect(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        server.restart();
        server
    }

    /// A configuration with two disks in its folder.
    fn volumes(&self) -> PathBuf {
        let disk = |name: &str| {
            let path = self.folder.path().join(name);
            std::fs::create_dir_all(&path).expect("a folder");
            format!("<{name}><path>{}/</path></{name}>", path.display())
        };
        let volume = |name: &str| format!("<{name}><disk>{name}</disk></{name}>");
        let text = format!(
            "<clickhouse><storage_configuration><disks>{}{}</disks><policies><tiered><volumes>{}{}\
             </volumes></tiered></policies></storage_configuration></clickhouse>",
            disk("hot"),
            disk("cold"),
            volume("hot"),
            volume("cold")
        );
        let path = self.folder.path().join("volumes.xml");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Where its HTTP listens; stays the same when it is started again.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A place for the test's own files, which goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged since the first start: warnings and errors.
    pub fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Runs a query, which may carry its data. An error is what ClickHouse says, or what happened
    /// to the connection.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        self.query_as("default", "", sql)
    }

    /// The same as another user.
    pub fn query_as(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        query(self.address, user, password, sql)
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }

    /// Kills it if it runs; starts it on the same data and the same port.
    pub fn restart(&mut self) {
        self.kill();
        let start = Instant::now();
        loop {
            let before = self.log().len();
            let mut child = self.spawn();
            if let Some(port) = ready(&mut child) {
                self.address.set_port(port);
                self.child = Some(child);
                return;
            }
            let _ = child.kill();
            let _ = child.wait();
            // While it was down, anybody may have been given its port for a moment.
            let log = self.log().split_off(before);
            let taken = log.contains("already in use") && start.elapsed() < CAP;
            assert!(taken, "ClickHouse does not come up: {log}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// SIGSTOP, and waits until every thread stands still: from then on the kernel accepts
    /// connections, and nobody answers.
    pub fn pause(&self) {
        let pid = self.pid();
        kill_process(pid, Signal::STOP).expect("a child of ours");
        let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
        until("all of ClickHouse to stop", || {
            let tasks = fs::read_dir(&tasks).expect("a child of ours").flatten();
            let mut states = tasks.map(|task| fs::read_to_string(task.path().join("stat")));
            states.all(|state| state.is_ok_and(|state| state.contains(") T ")))
        });
    }

    /// SIGCONT.
    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a child of ours");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it was killed: start it again first"))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("clickhouse.log")
    }

    fn spawn(&self) -> Child {
        let library = child::target()
            .join("clickhouse/node_modules/@chdb/lib-linux-x64-gnu")
            .join("libchdb.so");
        let missing = "ClickHouse is not installed: run `cargo xtask test`, or `cargo xtask \
                       clickhouse`, which installs it alone";
        assert!(library.is_file(), "there is no {}. {missing}", library.display());
        let log = File::options().create(true).append(true).open(self.log_path());
        let mut command = Command::new("python3");
        command.arg(child::clients().join("clickhouse_engine.py"));
        command.arg("--library").arg(library).arg("--path").arg(self.folder.path().join("data"));
        command.args(["--port", &self.address.port().to_string()]);
        if self.has_volumes {
            command.arg("--config-file").arg(self.volumes());
        }
        for user in &self.users {
            command.args(["--user", user]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.expect("a log file"));
        command.spawn().expect("python3, which `cargo xtask test` installs")
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("ClickHouse's log:\n{}", self.log());
        }
    }
}

/// Runs a query at an address, which may be that of a proxy.
pub fn query(address: SocketAddr, user: &str, password: &str, sql: &str) -> Result<String, String> {
    let mut headers = format!("X-ClickHouse-User: {user}\r\n");
    if !password.is_empty() {
        headers.push_str(&format!("X-ClickHouse-Key: {password}\r\n"));
    }
    // Without this a query that fails late has already answered 200.
    let target = ("POST", "/?wait_end_of_query=1");
    let answer = exchange(address, target, &headers, sql.as_bytes());
    let answer = answer.map_err(|error| format!("{address}: {error}"))?;
    if answer.status == 200 { Ok(answer.text()) } else { Err(answer.text()) }
}

/// Waits for the line that a server prints when it serves; gives the port in it.
fn ready(child: &mut Child) -> Option<u16> {
    let line = first_line(child.stdout.take().expect("piped"), |line| line.starts_with("ready"))?;
    line.trim_end().split("http=").nth(1)?.parse().ok()
}

/// The first line for which `wanted` holds; `None` if the program ends or is too slow.
pub fn first_line(
    from: impl Read + Send + 'static,
    wanted: impl Fn(&str) -> bool + Send + 'static,
) -> Option<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from).lines().map_while(Result::ok);
        let _ = lines.find(|line| wanted(line)).map(|line| sender.send(line));
        // Read on, so that the program can go on writing.
        lines.for_each(drop);
    });
    receiver.recv_timeout(CAP).ok()
}
