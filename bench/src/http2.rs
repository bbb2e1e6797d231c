//! An HTTP/2 publisher (prior knowledge) on the `h2` crate: so many requests under way at a time.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// Path and query.
    pub path: String,
    pub content_type: &'static str,
    /// Bodies in turn.
    pub bodies: Arc<Vec<Bytes>>,
    /// Requests in all.
    pub requests: u64,
    /// Requests under way at a time.
    pub streams: usize,
    /// Events in one request.
    pub events_each: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    pub requests: u64,
    pub accepted: u64,
    pub rejected: u64,
}

impl Answers {
    /// Adds another load's.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
    }

    /// One line on what went wrong, or that nothing did: a request that gets no 202 ends the run.
    pub fn integrity(&self) -> String {
        format!(
            "{} requests answered 202; {} events accepted, {} refused",
            self.requests, self.accepted, self.rejected
        )
    }
}

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    #[serde(default)]
    rejected: u64,
}

/// Sends the load over one connection and waits for every answer.
pub fn send(target: SocketAddr, load: &Load) -> Result<Answers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(target, load))
}

/// Sends one request of the load and shows its answer: the fields and the body.
pub fn ask(target: SocketAddr, load: &Load) -> Result<(Vec<(String, String)>, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(target).await?;
        let (client, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let mut client = client.ready().await?;
        let (head, text) = exchange(&mut client, target, load, 0).await?;
        driver.abort();
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())));
        Ok((fields.collect::<Result<_>>()?, String::from_utf8(text)?))
    })
}

async fn run(target: SocketAddr, load: &Load) -> Result<Answers> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let taken = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..load.streams {
        workers.spawn(worker(client.clone(), target, load.clone(), Arc::clone(&taken)));
    }
    let mut sum = Answers::default();
    while let Some(answers) = workers.join_next().await {
        sum.add(answers??);
    }
    drop(client);
    driver.abort();
    Ok(sum)
}

async fn worker(
    client: SendRequest<Bytes>,
    target: SocketAddr,
    load: Load,
    taken: Arc<AtomicU64>,
) -> Result<Answers> {
    let mut client = client;
    let mut sum = Answers::default();
    loop {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        if number >= load.requests {
            return Ok(sum);
        }
        client = client.ready().await?;
        let (_, text) = exchange(&mut client, target, &load, number).await?;
        let answer: Answer = serde_json::from_slice(&text)
            .with_context(|| format!("answer: {}", String::from_utf8_lossy(&text)))?;
        sum.requests += 1;
        sum.accepted += answer.accepted;
        sum.rejected += answer.rejected;
    }
}

/// One request, its body as far as the windows allow, and the whole answer.
async fn exchange(
    client: &mut SendRequest<Bytes>,
    target: SocketAddr,
    load: &Load,
    number: u64,
) -> Result<(http::response::Parts, Vec<u8>)> {
    let request = Request::post(format!("http://{target}{}", load.path))
        .header("content-type", load.content_type)
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    let mut rest = load.bodies[number as usize % load.bodies.len()].clone();
    while !rest.is_empty() {
        body.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let room = room.context("the server closed the stream")??;
        let piece = rest.split_to(room.min(rest.len()));
        body.send_data(piece, rest.is_empty())?;
    }
    let (head, mut answer) = response.await?.into_parts();
    let status = head.status;
    let mut text = Vec::new();
    while let Some(piece) = answer.data().await {
        let piece = piece?;
        let _ = answer.flow_control().release_capacity(piece.len());
        text.extend_from_slice(&piece);
    }
    if status != 202 {
        bail!("the server answered {status}: {}", String::from_utf8_lossy(&text));
    }
    Ok((head, text))
}
