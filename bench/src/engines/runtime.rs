//! What an asynchronous runtime has to offer to carry a driver.

use bytes::Bytes;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes of a read buffer of those who send much: as many as our own drivers' buffers have.
pub const CHATTY_BYTES: usize = super::host::SIZES.receive_buffer_bytes as usize;

/// A runtime with its own kind of sockets, on one thread.
pub trait Runtime: Sized + 'static {
    /// As reports name it.
    const NAME: &'static str;
    /// Bytes of a quiet connection's read buffer. Where reads are completion-based, every idle
    /// connection holds one, and what clients send are short frames; where they are
    /// readiness-based, none does.
    const READ_BYTES: usize;

    /// The receiving half of a connection.
    type Reader: 'static;
    /// The sending half.
    type Writer: 'static;
    /// A listening socket.
    type Listener: 'static;

    /// A runtime for this thread.
    fn new() -> io::Result<Self>;
    /// Runs a future, and everything spawned meanwhile.
    fn block_on<F: Future>(&mut self, future: F) -> F::Output;
    /// Runs a future beside the others.
    fn spawn(future: impl Future<Output = ()> + 'static);
    /// Lets everybody else run, and what the kernel has finished be seen.
    async fn pass();
    /// Waits.
    async fn sleep(time: Duration);

    /// Takes over a listening socket.
    fn listen(socket: TcpListener) -> io::Result<Self::Listener>;
    /// The next connection.
    async fn accept(
        listener: &Self::Listener,
    ) -> io::Result<(Self::Reader, Self::Writer, SocketAddr)>;
    /// Takes over a connected socket.
    fn open(socket: TcpStream) -> io::Result<(Self::Reader, Self::Writer)>;
    /// Reads what there is; `take` gives the buffer when it is needed.
    async fn read(
        reader: &mut Self::Reader,
        take: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>);
    /// Writes everything, waiting for room as long as it takes.
    async fn write_all(writer: &mut Self::Writer, bytes: Bytes) -> io::Result<()>;
    /// Writes at once what the socket takes, where the runtime can tell without waiting.
    fn try_write(_writer: &Self::Writer, _bytes: &[u8]) -> Option<io::Result<usize>> {
        None
    }
    /// Half-closes after what was written.
    async fn shutdown(writer: &mut Self::Writer);
    /// Makes operations under way end, where dropping their futures does not.
    fn abort(_writer: &Self::Writer) {}
}
