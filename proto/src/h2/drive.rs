//! The executor half of a session: driving `h2`, its streams and the pump.

use super::*;

impl H2Session {
    /// Polls `h2`: reads the input, writes what is ready, accepts new streams.
    pub(super) fn drive(&mut self) {
        self.pipe.unblock();
        // Cleared first: what is woken while polling is seen by the caller's loop.
        self.ready.take_connection();
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if let Stage::Handshake(handshake) = &mut self.stage {
            match Pin::new(&mut **handshake).poll(&mut cx) {
                Poll::Pending => return self.give_up_if_ending_early(),
                Poll::Ready(Ok(connection)) => self.open(connection),
                Poll::Ready(Err(error)) => return self.fail_handshake(&error),
            }
        }
        loop {
            let Stage::Open(open) = &mut self.stage else { return };
            if let PingPongState(Some(ping_pong)) = &mut open.ping_pong
                && let Poll::Ready(Ok(_)) = ping_pong.poll_pong(&mut cx)
            {
                self.events.push_back(H2Event::Pong);
            }
            match open.connection.poll_accept(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
                Poll::Ready(Some(Err(error))) => return self.close(Some(closing_error(&error))),
                Poll::Ready(None) => return self.close(None),
            }
        }
    }

    fn open(&mut self, mut connection: Connection<Pipe, Bytes>) {
        if self.goaway {
            connection.graceful_shutdown();
        }
        if let Some(error) = self.ending {
            connection.abrupt_shutdown(reason_of(error));
        }
        let ping_pong = PingPongState(connection.ping_pong());
        self.stage = Stage::Open(Box::new(Open { connection, ping_pong }));
    }

    /// An end before the preface was read: `h2` has no connection yet to say it on.
    fn give_up_if_ending_early(&mut self) {
        if let Some(error) = self.ending {
            self.pipe.push_output(&goaway_frame(reason_of(error)));
            self.close(None);
        }
    }

    fn fail_handshake(&mut self, error: &::h2::Error) {
        if error.is_io() {
            return self.close(Some(H2Error::PeerClosed));
        }
        //= rfc9113#3.4
        // An invalid preface is a connection error; h2 leaves the GOAWAY to us.
        self.pipe.push_output(&goaway_frame(Reason::PROTOCOL_ERROR));
        self.close(Some(H2Error::BadPreface));
    }

    fn accept(
        &mut self,
        request: http::Request<::h2::RecvStream>,
        respond: ::h2::server::SendResponse<Bytes>,
    ) {
        let (head, body) = request.into_parts();
        let end_stream = body.is_end_stream();
        let key = self.streams.insert(Stream::new(body, respond, end_stream));
        self.events.push_back(H2Event::Request { stream: key, head, end_stream });
        // Takes what is there already and registers the waker.
        self.poll_stream(key.slot);
    }

    pub(super) fn poll_ready_streams(&mut self) {
        let mut slots = std::mem::take(&mut self.ready_slots);
        self.ready.take_slots(&mut slots);
        for slot in slots.drain(..) {
            self.streams.rearm(slot);
            self.poll_stream(slot);
        }
        self.ready_slots = slots;
    }

    fn poll_stream(&mut self, slot: u32) {
        let Some((key, waker, stream)) = self.streams.at(slot) else { return };
        let mut cx = Context::from_waker(waker.waker());
        if let Err(reason) = stream.receive(key, &mut cx, &mut self.events) {
            self.remove(key);
            self.events.push_back(H2Event::Reset { stream: key, reason });
            return;
        }
        if (stream.queued_bytes > 0 || stream.end_queued) && !stream.pump_listed {
            stream.pump_listed = true;
            self.pump_slots.push_back(slot);
        }
    }

    /// Hands queued responses to `h2`, a frame per stream in turn, until something else should
    /// happen first. True if anything moved.
    pub(super) fn pump(&mut self) -> bool {
        let mut handed_bytes = 0;
        let mut moved = false;
        while handed_bytes < PUMP_BYTES_MAX {
            let Some(slot) = self.pump_slots.pop_front() else { break };
            let Some((key, waker, stream)) = self.streams.at(slot) else { continue };
            let mut cx = Context::from_waker(waker.waker());
            let queued_before = stream.queued_bytes;
            let pumped = stream.pump(self.now_ms, &mut cx);
            self.queued_bytes_total -= queued_before - stream.queued_bytes;
            stream.pump_listed = matches!(pumped, Pumped::Sent { .. });
            match pumped {
                Pumped::Sent { bytes, cut } => {
                    handed_bytes += bytes;
                    moved = true;
                    self.pump_slots.push_back(slot);
                    if !cut {
                        self.guard.data_sent();
                    }
                }
                Pumped::Finished => {
                    handed_bytes += queued_before;
                    moved = true;
                    self.guard.data_sent();
                    self.remove(key);
                }
                Pumped::Gone => {
                    moved = true;
                    self.remove(key);
                    self.events.push_back(H2Event::Reset { stream: key, reason: None });
                }
                Pumped::Waiting | Pumped::Empty => {}
            }
        }
        moved
    }

    /// Forgets a stream and what it had queued.
    pub(super) fn remove(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.remove(key) {
            self.queued_bytes_total -= stream.queued_bytes;
        }
    }

    /// Begins an abrupt end; the first reason wins.
    pub(super) fn end(&mut self, error: H2Error) {
        if self.ending.is_some() || matches!(self.stage, Stage::Closed) {
            return;
        }
        self.ending = Some(error);
        self.pipe.discard_input();
        if let Stage::Open(open) = &mut self.stage {
            open.connection.abrupt_shutdown(reason_of(error));
            self.ready.wake_connection();
        }
    }

    fn close(&mut self, error: Option<H2Error>) {
        self.stage = Stage::Closed;
        self.ending = self.ending.or(error);
    }

    /// Says the last events, once.
    pub(super) fn finish(&mut self) {
        if self.said_closed {
            return;
        }
        self.said_closed = true;
        let open: Vec<StreamKey> = self.streams.iter().map(|(key, _)| key).collect();
        for key in open {
            self.remove(key);
            self.events.push_back(H2Event::Reset { stream: key, reason: None });
        }
        self.pump_slots = VecDeque::new();
        self.pipe.discard_input();
        self.events.push_back(H2Event::Closed { error: self.ending });
    }
}

/// GOAWAY when no stream was processed (rfc9113#6.8).
fn goaway_frame(reason: Reason) -> [u8; 17] {
    let [a, b, c, d] = u32::from(reason).to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

fn reason_of(error: H2Error) -> Reason {
    match error {
        H2Error::TooManyResets | H2Error::TooManyControlFrames => Reason::ENHANCE_YOUR_CALM,
        H2Error::Protocol(reason) | H2Error::PeerGoaway(reason) | H2Error::Aborted(reason) => {
            reason
        }
        H2Error::BadPreface => Reason::PROTOCOL_ERROR,
        H2Error::PeerClosed => Reason::NO_ERROR,
    }
}

fn closing_error(error: &::h2::Error) -> H2Error {
    match error.reason() {
        Some(reason) if error.is_remote() => H2Error::PeerGoaway(reason),
        Some(reason) => H2Error::Protocol(reason),
        None => H2Error::PeerClosed,
    }
}
