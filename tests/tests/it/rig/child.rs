//! Programs that others wrote, run with a time cap.

use super::CAP;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Runs a program to its end and gives what it printed; a missing program fails with the remedy.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot start {command:?} ({error}); `cargo xtask test` installs what tests need")
    });
    let out = read_in_background(child.stdout.take().expect("piped"));
    let err = read_in_background(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if start.elapsed() > CAP * 3 {
            let _ = child.kill();
            let _ = child.wait();
            let (out, err) = (out.join().expect("read"), err.join().expect("read"));
            panic!("{command:?} did not end:\n{}\n{}", lossy(&out), lossy(&err));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (out.join().expect("read"), err.join().expect("read"));
    Output { status, stdout, stderr }
}

fn read_in_background(
    mut from: impl std::io::Read + Send + 'static,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Runs a program that must succeed; gives its standard output.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (lossy(&output.stdout), lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out
}

/// A program that runs beside the test and prints lines. It is killed when this goes away.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Watch {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {command:?} ({error}); `cargo xtask test` installs what tests need"
            )
        });
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line; the program must print one.
    pub fn line(&mut self) -> String {
        let Ok(line) = self.lines.recv_timeout(CAP) else {
            panic!("no further line after {:?}", self.seen);
        };
        self.seen.push(line.clone());
        line
    }

    /// The next line as JSON.
    pub fn json(&mut self) -> serde_json::Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// curl with a time cap of its own.
pub fn curl(arguments: &[&str]) -> String {
    run(Command::new("curl").args(["--silent", "--verbose", "--max-time", "120"]).args(arguments))
}

/// One of the scripts in `tests/clients`, run by Node or Python.
pub fn client(script: &str) -> Command {
    let folder = clients();
    let path = folder.join(script);
    assert!(path.is_file(), "there is no {}", path.display());
    let mut command = if script.ends_with(".py") {
        let packages = target().join("python");
        assert!(
            packages.is_dir(),
            "the Python clients are not installed: run `cargo xtask test`, or `python3 -m pip \
             install --target {} -r {}`",
            packages.display(),
            folder.join("requirements.txt").display(),
        );
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", packages);
        python
    } else {
        assert!(
            folder.join("node_modules/.package-lock.json").is_file(),
            "the npm clients are not installed: run `cargo xtask test`, or `npm ci` in {}",
            folder.display(),
        );
        Command::new("node")
    };
    command.arg(path);
    command
}

/// The folder with the clients.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Cargo's target folder: where the program under test is, two levels up.
pub fn target() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_shardcast-under-test"));
    program.ancestors().nth(2).expect("target/profile/program").to_owned()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
