//! `cargo xtask clickhouse`: a real ClickHouse on loopback, to try the server against.
//!
//! The engine is a library that npm carries; it is installed once for each target folder, below it,
//! because the file has 566 MB. `tests/clients/clickhouse_engine.py` makes a server of it, for this
//! command and for the tests. Deliberately absent: anything that the product ships or needs.

use crate::run::{command, root, run, shown, target_dir};
use crate::tools;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Without one, [`PORT`] or the next that is free.
    port: Option<u16>,
    path: Option<PathBuf>,
}

impl Request {
    /// Reads `[--port N] [--path DIR]`.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut request = Self { port: None, path: None };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().with_context(|| format!("`{word}` needs a value; {USAGE}"));
            match word.as_str() {
                "--port" => {
                    let value = value()?;
                    let port = value.parse().ok().filter(|port| *port > 0);
                    let wrong = || format!("`{value}` is no port: give one from 1 to 65535");
                    request.port = Some(port.with_context(wrong)?);
                }
                "--path" => request.path = Some(PathBuf::from(value()?)),
                other => bail!("`{other}` is not expected here; {USAGE}"),
            }
        }
        Ok(request)
    }
}

/// Installs the engine if it is missing, starts it, and stays until it ends.
pub fn serve(request: &Request) -> Result<()> {
    if tools::find("python3").is_none() {
        bail!("there is no python3, which starts the engine; install Python 3.9 or newer");
    }
    let library = install()?;
    let port = choose_port(request.port)?;
    let path = request.path.clone().unwrap_or_else(|| target_dir().join("clickhouse-data"));
    let mut engine = command("python3", &["tests/clients/clickhouse_engine.py", "--library"]);
    engine.arg(library).args(["--port", &port.to_string()]);
    engine.arg("--path").arg(std::path::absolute(&path)?).stdout(Stdio::piped());
    let mut child = engine.spawn().with_context(|| format!("cannot start `{}`", shown(&engine)))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
    if line.starts_with("ready") {
        let url = format!("http://127.0.0.1:{port}");
        println!("ClickHouse serves {url}, its data is in {}", path.display());
        println!("  curl {url} --data 'SELECT version()'");
        println!("  curl {url} --data 'SHOW TABLES FORMAT PrettyCompact'");
        println!("Its user is `default`, without a password. Ctrl-C ends it and keeps the data.");
    }
    // Ctrl-C reaches both of us, and the engine does not survive us.
    let status = child.wait()?;
    bail!(
        "ClickHouse ended ({status}); what it said is above. If another one has the data, end it or \
         give this one a folder of its own with --path"
    );
}

fn choose_port(wanted: Option<u16>) -> Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    if let Some(port) = wanted {
        if !free(&port) {
            bail!("127.0.0.1:{port} is taken; give another --port, or none to get a free one");
        }
        return Ok(port);
    }
    let port = (PORT..PORT + PORTS_TRIED).find(free);
    let port = port.with_context(|| {
        format!("no port from {PORT} to {} is free; give one with --port", PORT + PORTS_TRIED - 1)
    })?;
    if port != PORT {
        println!("127.0.0.1:{PORT} is taken: using {port}");
    }
    Ok(port)
}

/// Installs the engine unless what is there is what the lock file says; gives the library's path.
pub fn install() -> Result<PathBuf> {
    let folder = target_dir().join("clickhouse");
    let library = folder.join("node_modules/@chdb/lib-linux-x64-gnu/libchdb.so");
    let stamp = folder.join("installed.json");
    let source = root().join("tests/clickhouse");
    let wanted = fs::read_to_string(source.join("package-lock.json"))
        .context("cannot read which ClickHouse to install")?;
    if library.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(library);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        bail!(
            "npm carries this ClickHouse for Linux on x86-64 with glibc only; use such a machine or a \
             container"
        );
    }
    tools::require_node()?;
    println!("installing ClickHouse into {} (once; its library has 566 MB)", folder.display());
    fs::create_dir_all(&folder)?;
    // A stamp that is older than a failed installation must not vouch for it.
    let _ = fs::remove_file(&stamp);
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    let mut npm = command("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.current_dir(&folder)).context(
        "cannot install ClickHouse: check that npm reaches its registry and that the disk has 1 GB \
         free, then run this again",
    )?;
    fs::write(&stamp, wanted).context("cannot note what was installed")?;
    Ok(library)
}

/// ClickHouse's own default.
const PORT: u16 = 8123;
const PORTS_TRIED: u16 = 100;
const USAGE: &str = "usage: cargo xtask clickhouse [--port N] [--path DIR]";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn a_wrong_argument_is_refused_with_the_usage() {
        let path = Some(PathBuf::from("a"));
        assert_eq!(parse("--path a --port 9").unwrap(), Request { port: Some(9), path });
        for wrong in ["--port", "--port 0", "--port 65536", "--ports 1", "9"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_taken_port_is_said_and_not_shared() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(choose_port(Some(port)).unwrap_err().to_string().contains("is taken"));
        assert_ne!(choose_port(None).unwrap(), port);
    }
}
