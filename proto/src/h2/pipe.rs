//! The in-memory pipe that stands where `h2` expects a socket.
//!
//! Both ends live on one thread: the session holds one handle, `h2` the other, which it never
//! gives back; hence the `Rc`. Input is what the peer sent and `h2` has not read yet. Output is
//! bounded: over the limit a write is `Pending`, `h2` then also stops reading, and the session
//! tells its caller not to feed it. That is the whole back-pressure.

use bytes::Bytes;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One handle of the pipe.
#[derive(Debug, Clone)]
pub(super) struct Pipe(Rc<RefCell<Buffers>>);

#[derive(Debug)]
struct Buffers {
    input: Vec<u8>,
    /// How much of `input` has been read.
    input_read: usize,
    /// The peer will send nothing more.
    input_ended: bool,
    output: Vec<u8>,
    /// How much was taken last: the next one begins with room for as much.
    output_taken: usize,
    output_bytes_max: usize,
    /// A write was refused since [`Pipe::unblock`].
    blocked: bool,
}

impl Pipe {
    pub(super) fn new(output_bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Buffers {
            input: Vec::new(),
            input_read: 0,
            input_ended: false,
            output: Vec::new(),
            output_taken: 0,
            output_bytes_max,
            blocked: false,
        })))
    }

    pub(super) fn push_input(&self, bytes: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(bytes);
    }

    pub(super) fn end_input(&self) {
        self.0.borrow_mut().input_ended = true;
    }

    /// Bytes fed and not read yet.
    pub(super) fn input_len(&self) -> usize {
        let buffers = self.0.borrow();
        buffers.input.len() - buffers.input_read
    }

    pub(super) fn output_len(&self) -> usize {
        self.0.borrow().output.len()
    }

    pub(super) fn push_output(&self, bytes: &[u8]) {
        self.0.borrow_mut().output.extend_from_slice(bytes);
    }

    /// Everything written so far; the pipe keeps no buffer of its own, so an idle one is small.
    pub(super) fn take_output(&self) -> Option<Bytes> {
        let mut buffers = self.0.borrow_mut();
        if buffers.output.is_empty() {
            return None;
        }
        buffers.output_taken = buffers.output.len();
        Some(Bytes::from(std::mem::take(&mut buffers.output)))
    }

    pub(super) fn drain_output(&self, into: &mut Vec<u8>) -> usize {
        let output = std::mem::take(&mut self.0.borrow_mut().output);
        into.extend_from_slice(&output);
        output.len()
    }

    /// Forgets that a write was refused; called before `h2` is polled.
    pub(super) fn unblock(&self) {
        self.0.borrow_mut().blocked = false;
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.0.borrow().blocked
    }

    pub(super) fn has_room(&self) -> bool {
        let buffers = self.0.borrow();
        buffers.output.len() < buffers.output_bytes_max
    }

    /// Drops what is buffered in both directions' input side; nobody will read it.
    pub(super) fn discard_input(&self) {
        let mut buffers = self.0.borrow_mut();
        buffers.input = Vec::new();
        buffers.input_read = 0;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let buffers = self.0.borrow();
        buffers.input.capacity() + buffers.output.capacity()
    }
}

/// A drained input buffer up to this size is kept for the next receive.
const INPUT_KEPT_BYTES_MAX: usize = 4 << 10;

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffers = self.0.borrow_mut();
        let unread = buffers.input.get(buffers.input_read..).unwrap_or_default();
        if unread.is_empty() {
            // No waker: whoever feeds the session polls it.
            return if buffers.input_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let n = unread.len().min(into.remaining());
        into.put_slice(unread.get(..n).unwrap_or_default());
        buffers.input_read += n;
        if buffers.input_read == buffers.input.len() {
            buffers.input_read = 0;
            if buffers.input.capacity() > INPUT_KEPT_BYTES_MAX {
                buffers.input = Vec::new();
            } else {
                buffers.input.clear();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut buffers = self.0.borrow_mut();
        if buffers.output.len() >= buffers.output_bytes_max {
            buffers.blocked = true;
            return Poll::Pending;
        }
        // Taken whole, so the limit is passed by at most one write: h2 writes at most its 16 KiB
        // buffer and one frame of 16 KiB at once.
        let n: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = if buffers.output.capacity() == 0 { buffers.output_taken } else { 0 };
        buffers.output.reserve(n.max(room));
        for slice in slices {
            buffers.output.extend_from_slice(slice);
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
