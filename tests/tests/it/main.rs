//! The server against real sockets and clients that others wrote: curl, h2load, npm `ws`,
//! `eventsource` and undici, Python `websockets` and `aiohttp`, tungstenite, Prometheus' parser.
//!
//! One binary, a module per area. Every test of the data path runs on both engines and with one
//! and two shards ([`cells!`]). Most servers run inside the test; those that are killed, limited or
//! measured are processes of their own. A peer that is missing fails the test with the command that
//! installs it. Nothing here asserts a time: [`rig::until`] waits for conditions with generous
//! caps. What stands behind the server, ClickHouse and S3, is there too: see [`rig::clickhouse`].

#[macro_use]
mod rig;

mod api;
mod auth;
mod cache;
mod capacity;
mod clickhouse;
mod client;
mod deflate;
mod delta;
mod demo;
mod durability;
mod emulation;
mod faults;
mod floods;
mod formats;
mod guides;
mod h2load;
mod http;
mod limits;
mod presence;
mod query;
mod query_clickhouse;
mod recovery;
mod s3;
mod sinks;
mod sse;
mod threats;
mod tls;
mod tune;
mod ws;
