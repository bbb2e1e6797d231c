//! HTTP above the wire: heads, the Origin rules, routes and responses, the same for both versions.
//!
//! Pure functions of a head and the settings. What a route *does* is in `publish`, `delivery` and
//! `reads`; how bytes become heads is in `proto`.

pub mod aggregate;
mod client;
pub mod guard;
pub mod head;
pub mod origin;
pub mod response;
pub mod route;

pub use head::{Head, HeaderList, Headers};
pub use response::Response;
pub use route::{Route, SubscribeRequest};
