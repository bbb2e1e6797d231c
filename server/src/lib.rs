//! The Shardcast server: shards, drivers, control plane.
#![deny(unsafe_code)]

pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod driver;
pub mod epoll;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod page;
pub mod reactor;
pub mod shard;
pub mod uring;

pub use boot::{BootError, Report, Running, Server};
