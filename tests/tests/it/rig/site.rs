//! A server inside the test's process.

use super::http::{Answer, Wire, get_from, metric};
use super::{Cell, until};
use server::config::Config;
use server::{Report, Running, Server};
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

/// A running server with a folder of its own. When it goes out of scope it is drained, and no shard
/// may have died.
pub struct Site {
    running: Option<Running>,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Site {
    /// A server with defaults.
    pub fn start(cell: Cell) -> Self {
        Self::with(cell, |_| {})
    }

    /// A server whose configuration is changed first.
    pub fn with(cell: Cell, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(cell, &folder.path().join("data"));
        change(&mut config);
        let running = Server::start(config).unwrap_or_else(|error| panic!("{cell:?}: {error}"));
        let address = running.addresses()[0];
        let admin = running.admin_address().expect("an admin listener");
        Self { running: Some(running), address, admin, folder }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A place for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A bare connection.
    pub fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// GET on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        get_from(self.address, path)
    }

    /// GET from the admin listener.
    pub fn admin_get(&self, path: &str) -> Answer {
        get_from(self.admin, path)
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// POST on a connection of its own.
    pub fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.wire().post(path, content_type, body.as_ref())
    }

    /// Publishes one text and gives its position.
    pub fn publish(&self, channel: &str, text: &str) -> String {
        let answer = self.post(&format!("/v1/channels/{channel}/events"), "text/plain", text);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["positions"][0]["position"].as_str().expect("a position").to_owned()
    }

    /// The sum of a metric over its series.
    pub fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name)
    }

    /// Waits until so many subscriptions stand: what is published then reaches all of them.
    pub fn wait_for_subscriptions(&self, count: usize) {
        until(&format!("{count} subscriptions"), || {
            self.metric("shardcast_subscriptions") >= count as f64
        });
    }

    /// Drains and waits for the end.
    pub fn stop(mut self) -> Report {
        self.end().expect("a site stops once")
    }

    fn end(&mut self) -> Option<Report> {
        let running = self.running.take()?;
        running.drain();
        Some(running.join())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let Some(report) = self.end() else { return };
        if !std::thread::panicking() {
            assert_eq!(report.dead_shards, 0, "a shard died; its panic is in the output");
            assert!(report.storage.error.is_none(), "{:?}", report.storage);
        }
    }
}

/// Small segments and a short drain; everything else as shipped.
fn config(cell: Cell, data_dir: &Path) -> Config {
    let mut config = Config {
        listen: vec![LOOPBACK],
        admin_listen: LOOPBACK,
        data_dir: data_dir.to_owned(),
        shards: cell.shards,
        engine: cell.engine,
        server_name: "test".to_owned(),
        drain_time_s: 1,
        ..Config::default()
    };
    config.spool.segment_bytes = 4 << 20;
    config
}

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
