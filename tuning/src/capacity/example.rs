//! Loads whose answers are known.

use super::inputs::{Inputs, Load, Prices, Reserve, Wire};
use super::server::Server;

/// Their names and what they are.
pub const EXAMPLES: [(&str, &str); 1] = [(
    "chat-1m",
    "a chat of 1,000,000 users in rooms of 50, on servers of 100,000 connections, 10,000 messages in \
     and 50,000 out a second, 1 Gbit/s and $0.50 an hour",
)];

/// The example of that name.
pub fn example(name: &str) -> Option<Inputs> {
    match name {
        "chat-1m" => Some(chat_1m()),
        _ => None,
    }
}

fn chat_1m() -> Inputs {
    Inputs {
        load: Load { users: 1e6, rooms_per_user: 2.0, ..Load::default() },
        wire: Wire::default(),
        server: Server {
            name: "as given by the example".to_owned(),
            connections: Some(100_000.0),
            in_per_s: Some(10_000.0),
            out_per_s: Some(50_000.0),
            link_gbps: Some(1.0),
            ..Server::given()
        },
        reserve: Reserve::default(),
        prices: Prices { server_hour: Some(0.5), per_gb: Some(0.05), ..Prices::default() },
        managed: Vec::new(),
        pod_memory_bytes: None,
    }
}
