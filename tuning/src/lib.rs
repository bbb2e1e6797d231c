//! What the machine allows, what a target needs of it, and how to give it that.
//!
//! [`Machine::read`] gathers the facts that sizes are derived from at the server's start: the cores
//! this process may run on, the CPU quota and the memory limit of its cgroup, the descriptor limit,
//! the kernel. `server::config::budget` turns those into sizes.
//!
//! The rest is `shardcast tune`. [`check`] compares the machine with a [`target::Target`], [`plan`]
//! says what to change, [`render`] writes that down for systemd, sysctl, a shell or Kubernetes,
//! [`apply`] does it and can undo it, and [`profile`] maps threads to cores. Data goes one way:
//! files under a [`root::Root`] and what was [`target::Measured`] become findings, findings carry
//! [`action::Action`]s, and nothing else is ever changed.
//!
//! [`capacity`] is `shardcast capacity`: how many servers a load needs. It reads nothing.
//!
//! Deliberately absent: any workspace crate (the server brings what it knows, such as its memory
//! budget and its probe of io_uring, as data), any cache, guesses: what cannot be read is absent or
//! `unknown` with the reason, never an error and never assumed, since a container may hide any
//! file.
//!
//! Tested on trees of files that describe machines, under a temporary root, and on the machine at
//! hand.
#![forbid(unsafe_code)]

pub mod action;
pub mod apply;
pub mod capacity;
mod cgroup;
pub mod check;
pub mod container;
mod machine;
pub mod measure;
pub mod nic;
pub mod parse;
pub mod plan;
pub mod profile;
pub mod render;
pub mod report;
pub mod root;
pub mod target;
pub mod text;
pub mod topology;

pub use machine::{KernelVersion, Machine, NofileLimit, Roots, raise_nofile};
