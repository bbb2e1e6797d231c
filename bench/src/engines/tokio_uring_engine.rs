//! tokio-uring: completion-based, on tokio's executor; shaped like monoio's.

use super::runtime::Runtime;
use bytes::Bytes;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio_uring::net::{TcpListener, TcpStream};

/// The runtime.
pub struct TokioUring(tokio_uring::Runtime);

impl Runtime for TokioUring {
    const NAME: &'static str = "tokio-uring";
    const READ_BYTES: usize = 256;

    type Reader = Rc<TcpStream>;
    type Writer = Rc<TcpStream>;
    type Listener = TcpListener;

    fn new() -> io::Result<Self> {
        let mut builder = tokio_uring::builder();
        builder.entries(4_096);
        Ok(Self(tokio_uring::Runtime::new(&builder)?))
    }

    fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) {
        drop(tokio_uring::spawn(future));
    }

    async fn pass() {
        tokio::task::yield_now().await;
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn listen(socket: std::net::TcpListener) -> io::Result<Self::Listener> {
        Ok(TcpListener::from_std(socket))
    }

    async fn accept(
        listener: &Self::Listener,
    ) -> io::Result<(Self::Reader, Self::Writer, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        let stream = Rc::new(stream);
        Ok((Rc::clone(&stream), stream, peer))
    }

    fn open(socket: std::net::TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        let stream = Rc::new(TcpStream::from_std(socket));
        Ok((Rc::clone(&stream), stream))
    }

    async fn read(
        reader: &mut Self::Reader,
        take: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        reader.read(take()).await
    }

    async fn write_all(writer: &mut Self::Writer, bytes: Bytes) -> io::Result<()> {
        writer.write_all(bytes).await.0
    }

    async fn shutdown(writer: &mut Self::Writer) {
        let _ = TcpStream::shutdown(writer, Shutdown::Write);
    }

    fn abort(writer: &Self::Writer) {
        // A dropped read stays in the kernel, and with it the socket.
        let _ = TcpStream::shutdown(writer, Shutdown::Both);
    }
}
