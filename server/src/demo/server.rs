//! The server as a child process: started, killed, started again.
//!
//! It is this same executable, through the hidden subcommand `demo-server`, which asks the kernel
//! to stop it when its parent dies and then becomes `serve`. So not even a supervisor that is
//! killed leaves a server behind.

use super::http::Http;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// How to start it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// For clients, the page and the feeds.
    pub listen: SocketAddr,
    /// For figures.
    pub admin: SocketAddr,
    /// The spool.
    pub data_dir: PathBuf,
    /// I/O engine and shards, as `serve` takes them.
    pub engine: String,
    pub shards: u32,
    /// A ClickHouse that gets everything, too.
    pub click_house: Option<String>,
}

impl Launch {
    /// The command line of `serve`. Namespaces: what the feeds send survives everything before
    /// anybody sees it (`deliver = durable`); `ticker` is the copy of the orders for screens,
    /// where a reader that falls behind is better served by the newest than by all.
    fn arguments(&self) -> Vec<String> {
        let sets = [
            "log.level=warn",
            // Ctrl-C means now; nobody here needs a long goodbye.
            "drain_time_s=1",
            "sse.retry_ms_min=300",
            "sse.retry_ms_max=1200",
            // Otherwise the kernel holds megabytes for the slow client before the server notices.
            "limits.send_buffer_bytes=16384",
            // It answers a ping when it has read what was sent before.
            "limits.pong_timeout_s=60",
            "namespaces.system.deliver=durable",
            "namespaces.system.client_publish=nobody",
            "namespaces.orders.deliver=durable",
            "namespaces.orders.client_publish=nobody",
            // A minute of orders on the busiest day, so that a slow start loses nobody.
            "namespaces.orders.history_size=5000",
            "namespaces.ticker.deliver=durable",
            "namespaces.ticker.client_publish=nobody",
            "namespaces.ticker.outbox_policy=drop_oldest",
            "namespaces.demo.deliver=durable",
            "namespaces.demo.client_publish=nobody",
        ];
        let outbox = format!("limits.outbox_bytes_max={OUTBOX_BYTES_MAX}");
        let store = self.click_house.iter().flat_map(|url| {
            let database = format!("storage.clickhouse.database={DATABASE}");
            [format!("storage.clickhouse.url={url}"), database]
        });
        let mut arguments: Vec<String> = vec!["serve".into()];
        for set in store {
            arguments.extend(["--set".into(), set]);
        }
        for set in sets.into_iter().chain([outbox.as_str()]) {
            arguments.extend(["--set".into(), set.into()]);
        }
        let flags = [
            ("--listen", self.listen.to_string()),
            ("--admin-listen", self.admin.to_string()),
            ("--data-dir", self.data_dir.to_string_lossy().into_owned()),
            ("--engine", self.engine.clone()),
            ("--shards", self.shards.to_string()),
        ];
        for (flag, value) in flags {
            arguments.extend([flag.into(), value]);
        }
        arguments
    }

    /// An error for the user if somebody else listens where the server is going to: whoever that is
    /// might answer in its place when it is asked whether it is ready.
    pub fn addresses_are_free(&self) -> Result<(), String> {
        for (flag, address) in [("--listen", self.listen), ("--admin-listen", self.admin)] {
            TcpListener::bind(address).map_err(|error| {
                format!(
                    "cannot listen on {address} ({error}): stop what listens there, another demo or \
                     server perhaps, or choose another address with {flag}"
                )
            })?;
        }
        Ok(())
    }

    /// Starts it. Its warnings and errors go to our standard error.
    pub fn start(&self) -> std::io::Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("demo-server").arg("--").args(self.arguments());
        // The user's own settings are for the user's own server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHARDCAST_") {
                command.env_remove(name);
            }
        }
        // A group of its own: Ctrl-C reaches the supervisor, which stops everything in order.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Ok(Running { child: command.spawn()? })
    }

    /// It serves.
    pub fn is_ready(&self, http: &mut Http) -> bool {
        http.get("/health/ready").is_ok_and(|answer| answer.status == 200)
    }
}

/// A server that was started.
pub struct Running {
    child: Child,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL: no warning, no flush. Returns when the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and what became of it.
    pub fn stop(mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid() as i32)
            && self.ended().is_none()
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The subcommand `demo-server`: dies with its parent, and is `serve` until then.
pub fn become_server(arguments: &[OsString]) -> u8 {
    let parent = rustix::process::getppid();
    let signal = Some(rustix::process::Signal::TERM);
    let asked = rustix::process::set_parent_process_death_signal(signal);
    // The parent may have died before the kernel was asked.
    if asked.is_err() || rustix::process::getppid() != parent {
        return crate::cli::exit::INTERNAL;
    }
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    crate::log::error("the server cannot be started", &[("error", &error)]);
    crate::cli::exit::INTERNAL
}

/// The database of the demo, so that it never meets a real one's tables.
pub const DATABASE: &str = "shardcast_demo";

/// Waiting bytes per subscriber: small enough to watch a slow client reach it.
pub const OUTBOX_BYTES_MAX: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::Parser;

    fn launch() -> Launch {
        Launch {
            listen: "127.0.0.1:8000".parse().unwrap(),
            admin: "127.0.0.1:9000".parse().unwrap(),
            data_dir: "/tmp/demo".into(),
            engine: "auto".into(),
            shards: 0,
            click_house: Some("http://127.0.0.1:8123".into()),
        }
    }

    #[test]
    fn another_server_on_an_address_is_not_taken_for_ours() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let check = |listen, admin, expected: Option<&str>| {
            let said = Launch { listen, admin, ..launch() }.addresses_are_free().err();
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().ends_with(expected.unwrap_or_default()));
        };
        let taken = other.local_addr().unwrap();
        check(free, free, None);
        check(taken, free, Some("with --listen"));
        check(free, taken, Some("with --admin-listen"));
    }

    #[test]
    fn the_server_is_started_with_a_configuration_that_it_takes() {
        let launch = launch();
        let typed = std::iter::once("shardcast".to_owned()).chain(launch.arguments());
        let cli = Cli::try_parse_from(typed).unwrap();
        let crate::cli::args::Command::Serve(serve) = cli.command else { panic!("not serve") };
        let mut sources = serve.flags.sources();
        sources.environment.clear();
        sources.file = None;
        let config = crate::config::load(&sources).unwrap().config;
        use crate::config::namespace::{Access, Deliver, OutboxPolicy};
        for name in ["system", "orders", "ticker", "demo"] {
            assert_eq!(config.namespaces[name].deliver, Deliver::Durable, "{name}");
            assert_eq!(config.namespaces[name].client_publish, Access::Nobody, "{name}");
        }
        assert_eq!(config.storage.clickhouse.url, "http://127.0.0.1:8123");
        assert_eq!(config.storage.clickhouse.database, DATABASE);
        assert_eq!(config.namespaces["ticker"].outbox_policy, OutboxPolicy::DropOldest);
        assert_eq!(config.namespaces["orders"].outbox_policy, OutboxPolicy::Disconnect);
    }
}
