//! monoio: a reader and a writer task per connection, completion-based reads with a small buffer.

use super::core::{Hub, READ_BYTES, Session};
use anyhow::Result;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use std::rc::Rc;

pub fn run() -> Result<()> {
    let listener = super::listen()?;
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(4_096).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            serve(stream, &hub);
        }
    })
}

fn serve(stream: TcpStream, hub: &Rc<Hub>) {
    let (mut reader, mut writer) = stream.into_split();
    let mut session = Session::new(hub);
    let outbox = Rc::clone(&session.outbox);
    monoio::spawn(async move {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        loop {
            let (read, back) = reader.read(buffer).await;
            let alive = matches!(read, Ok(1..)) && session.feed(&back, &mut Vec::new());
            if !alive {
                return;
            }
            buffer = back;
            buffer.clear();
        }
    });
    monoio::spawn(async move {
        loop {
            let bytes = outbox.next().await;
            if writer.write_all(bytes).await.0.is_err() {
                return;
            }
        }
    });
}
