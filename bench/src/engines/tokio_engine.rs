//! tokio on one thread: one task per connection, no buffer while it is idle (readiness).

use super::core::{Hub, READ_BYTES, Session};
use anyhow::Result;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

pub fn run() -> Result<()> {
    let listener = super::listen()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(serve(stream, Session::new(&hub)));
        }
    })
}

enum Next {
    Send(bytes::Bytes),
    Readable,
}

async fn serve(mut stream: TcpStream, mut session: Session) {
    let outbox = Rc::clone(&session.outbox);
    loop {
        let next = {
            let mut bytes = pin!(outbox.next());
            std::future::poll_fn(|context| match bytes.as_mut().poll(context) {
                Poll::Ready(bytes) => Poll::Ready(Next::Send(bytes)),
                Poll::Pending => stream.poll_read_ready(context).map(|_| Next::Readable),
            })
            .await
        };
        match next {
            Next::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Next::Readable => {
                let mut buffer = [0; READ_BYTES];
                match stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) if session.feed(&buffer[..read], &mut Vec::new()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => return,
                }
            }
        }
    }
}
