//! tokio-uring: a reader and a writer task per connection, completion-based reads with a small
//! buffer.

use super::core::{Hub, READ_BYTES, Session};
use anyhow::Result;
use std::rc::Rc;
use tokio_uring::net::{TcpListener, TcpStream};

pub fn run() -> Result<()> {
    let listener = super::listen()?;
    tokio_uring::builder().entries(4_096).start(async {
        let listener = TcpListener::from_std(listener);
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            serve(stream, &hub);
        }
    })
}

fn serve(stream: TcpStream, hub: &Rc<Hub>) {
    let reader = Rc::new(stream);
    let writer = Rc::clone(&reader);
    let mut session = Session::new(hub);
    let outbox = Rc::clone(&session.outbox);
    tokio_uring::spawn(async move {
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
    tokio_uring::spawn(async move {
        loop {
            let bytes = outbox.next().await;
            if writer.write_all(bytes).await.0.is_err() {
                return;
            }
        }
    });
}
