//! What the machine allows, and (later) how to make it allow more.
//!
//! [`Machine::read`] gathers the facts that sizes are derived from: the cores this process may run
//! on, the CPU quota and the memory limit of its cgroup, the descriptor limit, the kernel. Nothing
//! here decides anything: `server::config::budget` turns facts into sizes, and is a pure function.
//!
//! Deliberately absent: any workspace crate, any cache (a caller reads once at start and keeps the
//! answer), guesses about virtualisation. A file that is missing or unreadable makes its fact
//! absent, never an error: a container may hide any of them.
//!
//! Tested on the texts of real machines, through a tree of files under a temporary root.
#![forbid(unsafe_code)]

mod cgroup;
mod machine;
pub mod parse;

pub use machine::{KernelVersion, Machine, NofileLimit, Roots, raise_nofile};
