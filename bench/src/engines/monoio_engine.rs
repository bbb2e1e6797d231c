//! monoio: completion-based; a task reads each connection, another lives while it is sent to.

use super::runtime::Runtime;
use bytes::Bytes;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::TimeDriver;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

/// The runtime.
pub struct Monoio(monoio::Runtime<TimeDriver<monoio::IoUringDriver>>);

impl Runtime for Monoio {
    const NAME: &'static str = "monoio";
    const READ_BYTES: usize = 256;

    type Reader = TcpOwnedReadHalf;
    type Writer = TcpOwnedWriteHalf;
    type Listener = TcpListener;

    fn new() -> io::Result<Self> {
        let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(4_096);
        Ok(Self(builder.enable_timer().build()?))
    }

    fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(future));
    }

    async fn pass() {
        // A task that wakes itself makes the runtime submit and reap without sleeping; the main
        // future alone would be polled again at once.
        let task = monoio::spawn(async {
            let mut passed = false;
            poll_fn(|context| {
                if std::mem::replace(&mut passed, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
        task.await;
    }

    async fn sleep(time: Duration) {
        monoio::time::sleep(time).await;
    }

    fn listen(socket: std::net::TcpListener) -> io::Result<Self::Listener> {
        TcpListener::from_std(socket)
    }

    async fn accept(
        listener: &Self::Listener,
    ) -> io::Result<(Self::Reader, Self::Writer, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        let (reader, writer) = stream.into_split();
        Ok((reader, writer, peer))
    }

    fn open(socket: std::net::TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        Ok(TcpStream::from_std(socket)?.into_split())
    }

    async fn read(
        reader: &mut Self::Reader,
        take: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        reader.read(take()).await
    }

    async fn write_all(writer: &mut Self::Writer, bytes: Bytes) -> io::Result<()> {
        writer.write_all(bytes).await.0.map(|_| ())
    }

    async fn shutdown(writer: &mut Self::Writer) {
        // A peer that is gone already has nothing to be told.
        let _ = AsyncWriteRent::shutdown(writer).await;
    }
}
