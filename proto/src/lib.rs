//! Sans-IO protocol machines and codecs.
//!
//! Every machine takes `(now, bytes)` and yields bytes and events. Deliberately absent: sockets,
//! clocks, threads, logging and `unsafe`. The same code therefore runs under a real ring, under
//! epoll and in the simulated world. Remote input never panics: the lints below enforce it, and
//! each parser has a fuzz target in `tests/fuzz`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod answer;
pub mod centrifuge;
pub mod channel;
pub mod decode;
pub mod delta;
pub mod envelope;
pub mod event;
pub mod field;
pub mod h2;
pub mod http1;
pub mod position;
pub mod protobuf;
pub mod reason;
pub mod rfc3339;
pub mod sse;
pub mod tls;
pub mod ws;
