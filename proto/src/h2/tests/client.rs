//! A session and `h2`'s own client, joined by memory, in virtual time.

use super::*;
use ::h2::client::{self, SendRequest};

/// Both ends. `cut` is how many bytes each end is fed at once.
pub struct Pair {
    pub server: H2Session,
    pub send: SendRequest<Bytes>,
    client: client::Connection<Pipe, Bytes>,
    pipe: Pipe,
    cut: usize,
    pub now_ms: u64,
    pub client_done: bool,
    /// Most bytes the session had ready at once.
    pub output_bytes_top: usize,
}

pub fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Pair {
    pub fn new(limits: H2Limits) -> Self {
        Self::with(limits, usize::MAX, client::Builder::new())
    }

    pub fn with(limits: H2Limits, cut: usize, builder: client::Builder) -> Self {
        let pipe = Pipe::new(usize::MAX);
        let mut handshake = Box::pin(builder.handshake(pipe.clone()));
        let Poll::Ready(Ok((send, client))) = handshake.as_mut().poll(&mut cx()) else {
            panic!("the client writes its preface without waiting");
        };
        let server = H2Session::new(limits);
        Self { server, send, client, pipe, cut, now_ms: 0, client_done: false, output_bytes_top: 0 }
    }

    /// Moves bytes both ways and gives the server's events to `app`, until nothing moves.
    pub fn run(&mut self, mut app: impl FnMut(&mut H2Session, H2Event)) {
        loop {
            self.poll_client();
            let up = self.pipe.take_output();
            let down = self.run_server(up.as_deref().unwrap_or_default(), &mut app);
            for part in down.chunks(self.cut.max(1)) {
                self.pipe.push_input(part);
                self.poll_client();
            }
            if up.is_none() && down.is_empty() && self.pipe.output_len() == 0 {
                return;
            }
        }
    }

    fn run_server(&mut self, up: &[u8], app: &mut impl FnMut(&mut H2Session, H2Event)) -> Vec<u8> {
        let mut down = Vec::new();
        let mut parts = up.chunks(self.cut.max(1));
        loop {
            let part = parts.next();
            if let Some(part) = part {
                self.server.feed(self.now_ms, part);
            }
            self.server.poll(self.now_ms);
            while let Some(event) = self.server.next_event() {
                app(&mut self.server, event);
            }
            self.server.poll(self.now_ms);
            self.output_bytes_top = self.output_bytes_top.max(self.server.output_bytes());
            self.server.drain_output(&mut down);
            if part.is_none() && !self.server.needs_poll() {
                return down;
            }
        }
    }

    pub fn poll_client(&mut self) {
        if !self.client_done {
            self.pipe.unblock();
            self.client_done = Pin::new(&mut self.client).poll(&mut cx()).is_ready();
        }
    }

    pub fn request(
        &mut self,
        method: &str,
        end: bool,
    ) -> (client::ResponseFuture, ::h2::SendStream<Bytes>) {
        let request =
            http::Request::builder().method(method).uri("http://a/x?y=1").body(()).unwrap();
        assert!(self.send.poll_ready(&mut cx()).is_ready());
        self.send.send_request(request, end).unwrap()
    }

    pub fn client_pings(&mut self) -> PingPong {
        self.client.ping_pong().unwrap()
    }
}

/// The whole response, if it is complete now.
pub fn response(
    future: &mut client::ResponseFuture,
) -> Option<Result<http::Response<::h2::RecvStream>, ::h2::Error>> {
    match Pin::new(future).poll(&mut cx()) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Reads what is there of a body; true when it is complete.
pub fn read_body(
    body: &mut ::h2::RecvStream,
    into: &mut Vec<u8>,
    release: bool,
) -> Result<bool, ::h2::Error> {
    loop {
        match body.poll_data(&mut cx()) {
            Poll::Ready(Some(Ok(bytes))) => {
                into.extend_from_slice(&bytes);
                if release {
                    body.flow_control().release_capacity(bytes.len()).unwrap();
                }
            }
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => return Ok(true),
            Poll::Pending => return Ok(false),
        }
    }
}
