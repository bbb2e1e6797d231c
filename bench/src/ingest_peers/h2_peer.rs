//! The bare `h2` crate: a task per connection and one per request.

use super::Answer;
use anyhow::Result;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

pub async fn serve(listener: TcpListener, answer: Answer) -> Result<()> {
    let head = answer.head()?;
    let given = Arc::new((head, Bytes::from(answer.body)));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let given = Arc::clone(&given);
        // What ends a connection of the benchmark is its client.
        tokio::spawn(async move { connection(stream, given).await.ok() });
    }
}

type Given = Arc<(http::Response<()>, Bytes)>;

async fn connection(stream: TcpStream, given: Given) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .max_concurrent_streams(1_000)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let given = Arc::clone(&given);
        let body = request.into_body();
        tokio::spawn(async move { answer(body, respond, &given).await.ok() });
    }
    Ok(())
}

async fn answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    given: &(http::Response<()>, Bytes),
) -> Result<()> {
    let mut held = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        held.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    std::hint::black_box(&held);
    let mut send = respond.send_response(given.0.clone(), false)?;
    send.send_data(given.1.clone(), true)?;
    Ok(())
}
