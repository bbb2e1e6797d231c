//! The Shardcast server: shards, drivers, control plane.
#![deny(unsafe_code)]
// Some helpers are the program's alone.
#![cfg_attr(not(feature = "program"), allow(dead_code, unused_imports))]

pub mod auth;
#[cfg(feature = "program")]
pub mod boot;
#[cfg(feature = "program")]
pub mod cli;
pub mod config;
#[cfg(feature = "program")]
pub mod control;
#[cfg(feature = "program")]
pub mod demo;
pub mod driver;
pub mod epoll;
#[cfg(feature = "program")]
pub mod log;
pub mod mesh;
pub mod metrics;
#[cfg(feature = "program")]
pub mod page;
pub mod pattern;
pub mod rate;
#[cfg(feature = "program")]
pub mod reactor;
pub mod shard;
pub mod uring;

#[cfg(feature = "program")]
pub use boot::{BootError, Report, Running, Server};
