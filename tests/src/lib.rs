//! Tests over the whole product: here the simulated world; real sockets and peers beside it.

pub mod sim;
