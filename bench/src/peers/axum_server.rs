//! axum with WebSocket and server-sent events, as people write a broadcast with it: a tokio
//! broadcast channel per room, a task per connection that selects between its receivers, its socket
//! and a heartbeat. One thread.
//!
//! Three kinds: buffers as they come; `tuned` with a read buffer of 4 KiB and none for writing;
//! `batched`, which also writes everything that waits before it flushes. The allocator is the
//! benchmark's (mimalloc), which is the server's, too.

use super::tls_listener::TlsListener;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::{Args, ValueEnum};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

type Text = axum::extract::ws::Utf8Bytes;

/// Messages that may wait for one subscriber.
const WAITING_MAX: usize = 1_024;
const HEARTBEAT: Duration = Duration::from_secs(25);

/// How the buffers are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Default,
    Tuned,
    Batched,
}

/// Arguments of the process.
#[derive(Debug, Clone, Args)]
pub struct AxumArgs {
    #[arg(long, value_enum)]
    kind: Kind,
    #[arg(long)]
    port: u16,
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(Clone)]
struct Hub {
    rooms: Arc<Mutex<HashMap<String, Sender<Text>>>>,
    kind: Kind,
}

#[derive(Deserialize)]
struct Wanted {
    rooms: String,
}

/// The process.
pub fn run(args: &AxumArgs) -> Result<()> {
    crate::machine::raise_descriptors();
    let hub = Hub { rooms: Arc::default(), kind: args.kind };
    let router = Router::new()
        .route("/ws", get(websocket))
        .route("/sse", get(events))
        .route("/pub", post(publish))
        .with_state(hub);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = crate::floor::listen_at(args.port)?;
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        match (&args.cert, &args.key) {
            (Some(cert), Some(key)) => {
                axum::serve(TlsListener::new(listener, cert, key)?, router).await
            }
            _ => axum::serve(listener, router).await,
        }
        .context("axum ended")
    })
}

impl Hub {
    fn room(&self, name: &str) -> Sender<Text> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.entry(name.to_owned()).or_insert_with(|| broadcast::channel(WAITING_MAX).0).clone()
    }

    /// One or two.
    fn receivers(&self, wanted: &Wanted) -> (Receiver<Text>, Option<Receiver<Text>>) {
        match wanted.rooms.split_once(',') {
            Some((first, second)) => {
                (self.room(first).subscribe(), Some(self.room(second).subscribe()))
            }
            None => (self.room(&wanted.rooms).subscribe(), None),
        }
    }

    fn publish(&self, text: Text) {
        if let Some(room) = text.as_str().get(32..40) {
            // An error says that nobody listens.
            let _ = self.room(room).send(text);
        }
    }
}

async fn websocket(
    State(hub): State<Hub>,
    Query(wanted): Query<Wanted>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let receivers = hub.receivers(&wanted);
    let upgrade = match hub.kind {
        Kind::Default => upgrade,
        Kind::Tuned => upgrade.read_buffer_size(4 << 10).write_buffer_size(0),
        Kind::Batched => upgrade.read_buffer_size(4 << 10).write_buffer_size(16 << 10),
    };
    upgrade.on_upgrade(move |socket| async move { serve(socket, hub, receivers).await })
}

async fn serve(
    mut socket: WebSocket,
    hub: Hub,
    (mut first, mut second): (Receiver<Text>, Option<Receiver<Text>>),
) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.tick().await;
    loop {
        let text = tokio::select! {
            received = next(&mut first) => received,
            received = next_of(&mut second) => received,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    hub.publish(text);
                    continue;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = heartbeat.tick() => {
                if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(text) = text else { return };
        let sent = match hub.kind {
            Kind::Batched => send_all(&mut socket, text, &mut first, second.as_mut()).await,
            _ => socket.send(Message::Text(text)).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Everything that waits, then one flush.
async fn send_all(
    socket: &mut WebSocket,
    text: Text,
    first: &mut Receiver<Text>,
    mut second: Option<&mut Receiver<Text>>,
) -> Result<(), axum::Error> {
    socket.feed(Message::Text(text)).await?;
    loop {
        let waiting = first.try_recv().ok();
        let waiting = waiting.or_else(|| second.as_mut().and_then(|room| room.try_recv().ok()));
        let Some(text) = waiting else { return socket.flush().await };
        socket.feed(Message::Text(text)).await?;
    }
}

/// The next message; what was dropped because this receiver was too slow is passed over.
async fn next(receiver: &mut Receiver<Text>) -> Option<Text> {
    loop {
        match receiver.recv().await {
            Ok(text) => return Some(text),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

async fn next_of(receiver: &mut Option<Receiver<Text>>) -> Option<Text> {
    match receiver {
        Some(receiver) => next(receiver).await,
        None => std::future::pending().await,
    }
}

async fn events(State(hub): State<Hub>, Query(wanted): Query<Wanted>) -> impl IntoResponse {
    let (first, second) = hub.receivers(&wanted);
    let events = match second {
        Some(second) => stream::select(messages(first), messages(second)).boxed(),
        None => messages(first).boxed(),
    };
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

fn messages(receiver: Receiver<Text>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(receiver, |mut receiver| async move {
        let text = next(&mut receiver).await?;
        Some((Ok(Event::default().data(text.as_str())), receiver))
    })
}

async fn publish(State(hub): State<Hub>, body: String) -> axum::http::StatusCode {
    hub.publish(body.into());
    axum::http::StatusCode::NO_CONTENT
}
