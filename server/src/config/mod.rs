//! The typed configuration.

pub mod limits;
pub mod namespace;
