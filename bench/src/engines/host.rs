//! One shard of the server in a process of its own, without control plane and spool.

use anyhow::Result;
use server::config::limits::Limits;
use server::config::namespace::Namespace;
use server::control::{ControlPort, Readiness, State};
use server::driver::{Driver, DriverSizes};
use server::mesh::{Mesh, ShardId};
use server::reactor::listeners::{self, Held};
use server::reactor::{Clock, Reactor, Shared};
use server::shard::home::Home;
use server::shard::{Parts, Settings, Shard};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use storage::StorageRing;

/// Of every driver.
pub const SIZES: DriverSizes = DriverSizes {
    connections: 20_000,
    receive_buffers: 1_024,
    receive_buffer_bytes: 4_096,
    receive_bytes_per_turn: 16 << 10,
};

/// How to reach a host that runs on another thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Ends its loop once its clients are gone.
    #[cfg(test)]
    pub fn stop(&self) {
        use std::sync::atomic::Ordering;
        self.shared.stopping.store(true, Ordering::Release);
        // A state that makes a shard end without an order from the control plane.
        self.shared.readiness.advance(State::ShardFailed);
        self.shared.wake_all();
    }
}

/// A listening socket and what a shard is made of.
pub struct Host {
    /// Where clients connect.
    pub address: SocketAddr,
    /// See [`Handle`].
    pub handle: Handle,
    listener: OwnedFd,
}

impl Host {
    /// Listens as the server does by default; nothing is accepted yet.
    pub fn new() -> Result<Self> {
        let limits = Limits::default();
        let held = Held { bytes: limits.send_buffer_bytes, unsent_bytes: limits.unsent_bytes_max };
        Self::holding(held)
    }

    /// With a bound on what the kernel holds for a connection.
    pub fn holding(held: Held) -> Result<Self> {
        let mut bound = listeners::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, false, held)?;
        let listener = bound.remove(0);
        let readiness = Arc::new(Readiness::default());
        readiness.advance(State::Ready);
        let shared = Arc::new(Shared::new(1, readiness));
        let address = listeners::address_of(&listener)?;
        Ok(Self { address, handle: Handle { shared }, listener })
    }

    /// Serves on this thread.
    pub fn serve<D: Driver>(self, driver: D) -> Result<()> {
        let clock = Clock::start();
        let shard = Shard::new(parts(), clock.now());
        let port = Arc::new(ControlPort::default());
        let shared = self.handle.shared;
        let mut reactor = Reactor::new(driver, shard, clock, shared, port, Arc::default(), 1_000);
        reactor.listen(vec![self.listener]);
        reactor.run()?;
        Ok(())
    }
}

fn parts() -> Parts {
    let limits = Limits::default();
    let home = Home::fresh(&limits, 0x5eed);
    let namespace = Namespace { store: false, ..Namespace::default() };
    let mut settings = Settings::new([("default".to_owned(), namespace)], limits);
    settings.connections_max = SIZES.connections;
    Parts {
        id: ShardId(0),
        settings: Arc::new(settings),
        mesh: Mesh::new(1).end(ShardId(0)),
        home,
        ring: Arc::new(StorageRing::new(1, 1, 1 << 20)),
        store: None,
        seed: 0x5eed,
        secrets: Box::new(|| 1),
    }
}
