//! tokio on one thread: readiness, so an idle connection has no buffer, and a send that finds room
//! is made at once, without a task.

use super::runtime::Runtime;
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// The runtime.
pub struct Tokio {
    runtime: tokio::runtime::Runtime,
    local: LocalSet,
}

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    const READ_BYTES: usize = super::runtime::CHATTY_BYTES;

    type Reader = Rc<TcpStream>;
    type Writer = Rc<TcpStream>;
    type Listener = TcpListener;

    fn new() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self { runtime: builder.enable_io().enable_time().build()?, local: LocalSet::new() })
    }

    fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.local.block_on(&self.runtime, future)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(future));
    }

    async fn pass() {
        tokio::task::yield_now().await;
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn listen(socket: std::net::TcpListener) -> io::Result<Self::Listener> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    }

    async fn accept(
        listener: &Self::Listener,
    ) -> io::Result<(Self::Reader, Self::Writer, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        let stream = Rc::new(stream);
        Ok((Rc::clone(&stream), stream, peer))
    }

    fn open(socket: std::net::TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        socket.set_nonblocking(true)?;
        let stream = Rc::new(TcpStream::from_std(socket)?);
        Ok((Rc::clone(&stream), stream))
    }

    async fn read(
        reader: &mut Self::Reader,
        take: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        loop {
            if let Err(error) = reader.readable().await {
                return (Err(error), Vec::new());
            }
            let mut buffer = take();
            match reader.try_read_buf(&mut buffer) {
                // Readiness may be of yesterday: wait again, without the buffer.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return (outcome, buffer),
            }
        }
    }

    async fn write_all(writer: &mut Self::Writer, bytes: Bytes) -> io::Result<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match writer.try_write(rest) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => writer.writable().await?,
                outcome => rest = &rest[outcome?..],
            }
        }
        Ok(())
    }

    fn try_write(writer: &Self::Writer, bytes: &[u8]) -> Option<io::Result<usize>> {
        match writer.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Ok(0)),
            outcome => Some(outcome),
        }
    }

    async fn shutdown(writer: &mut Self::Writer) {
        let _ = rustix::net::shutdown(&**writer, rustix::net::Shutdown::Write);
    }
}
