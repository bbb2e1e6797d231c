//! Who receives: on the loopback the sender's core does the receiver's work, too, unless the
//! kernel is told to hand packets over (receive packet steering, net/core/dev.c).
//!
//! Over a network the clients' half of a delivery (TCP's receiving side, waking the client) happens
//! on the clients' machines. With [`Steering`] it happens on the clients' core, and what is left on
//! the server's is the server's own. The setting is the machine's, not this process's: it is put
//! back when the guard is dropped, and after a kill by the command that is printed.

use anyhow::{Context, Result};
use std::fs;

const MASK: &str = "/sys/class/net/lo/queues/rx-0/rps_cpus";
const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

/// Packets that may wait for the clients' core: a broadcast to 15,000 comes faster than they go,
/// and what finds no room is dropped and sent again.
const PACKETS: &str = "100000";

/// Holds the loopback's receiving on one core.
#[derive(Debug)]
pub struct Steering {
    before: Vec<(&'static str, String)>,
}

impl Steering {
    /// Moves it. Needs root.
    pub fn to(core: usize) -> Result<Self> {
        let mask = format!("{:x}", 1_u64.checked_shl(core as u32).unwrap_or(0));
        let mut steering = Self { before: Vec::new() };
        for (path, value) in [(BACKLOG, PACKETS), (MASK, mask.as_str())] {
            let before = fs::read_to_string(path).with_context(|| path.to_owned())?;
            let before = before.trim().to_owned();
            fs::write(path, value)
                .with_context(|| format!("{path}: --apart changes it, which needs root"))?;
            eprintln!("bench: {path}: {value}; after a kill: echo {before} > {path}");
            steering.before.push((path, before));
        }
        Ok(steering)
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for (path, before) in self.before.drain(..).rev() {
            if let Err(error) = fs::write(path, &before) {
                eprintln!("bench: {path} was {before} and could not be put back: {error}");
            }
        }
    }
}
