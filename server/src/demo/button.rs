//! The button: events on `demo:button` are presses.
//!
//! The supervisor is a subscriber like any other, so the server's rules decide who may press: on
//! loopback only names and origins of loopback may publish. Presses are taken live only, never
//! resumed: a press that was meant for a server that is gone must not kill the next one.

use crate::cli::client::Server;
use proto::sse::Parser;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Listens for ever; `listening` says whether a press would be heard.
pub fn listen(server: SocketAddr, listening: Arc<AtomicBool>, presses: mpsc::SyncSender<()>) {
    let server = Server { authority: server.to_string() };
    loop {
        // That the server is away is what the button is for.
        let _ = follow(&server, &listening, &presses);
        listening.store(false, Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn follow(
    server: &Server,
    listening: &AtomicBool,
    presses: &mpsc::SyncSender<()>,
) -> Result<(), String> {
    let mut connection = server.connect()?;
    let request = format!(
        "GET /v1/sse?channel=demo:button HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
        server.authority
    );
    let text = |error: std::io::Error| error.to_string();
    connection.send(request.as_bytes()).map_err(text)?;
    let head = connection.read_head().map_err(text)?;
    if head.status != 200 {
        return Err(format!("the server answered {}", head.status));
    }
    listening.store(true, Relaxed);
    let mut parser = Parser::new(64 << 10);
    let mut events = Vec::new();
    while let Some(piece) = connection.read_body().map_err(text)? {
        parser.feed(&piece, &mut events).map_err(|error| error.to_string())?;
        for event in events.drain(..) {
            if !event.event.starts_with(proto::sse::RESERVED_PREFIX) {
                // Full: a press is waiting already, and one is enough.
                let _ = presses.try_send(());
            }
        }
    }
    Ok(())
}
