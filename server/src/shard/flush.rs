//! The flush: at the end of a turn each dirty connection gets exactly one send with all it
//! gathered.
//!
//! A run goes out as one buffer, shared with every connection that gathered the same run. A
//! connection whose socket was full keeps its frames by reference in its backlog; when that is over
//! its budget the namespace's policy decides. TLS encrypts here, HTTP/2 frames here, and event
//! streams with several channels get their cursors here.
//!
//! What is copied for one connection (a run that nobody shares, ciphertext, a cursor) is held until
//! the sends are made. One turn copies [`Settings::frame_bytes_max`](super::Settings) and what its
//! last connection or stream needs; who comes after that keeps its frames by reference and goes
//! first in the next turn ([`Kept`]), so that everybody's turn comes.

mod waiting;

use super::connection::{Connection, End, EndpointId, Stamp};
use super::cursor::CursorWriter;
use super::frames::{Run, TurnFrames};
use super::outbox::{Backlog, Outbox, SendState};
use super::session::Session;
use super::{Send, Shard};
use crate::config::namespace::OutboxPolicy;
use crate::driver::ConnId;
use crate::metrics::DropReason;
use bytes::Bytes;
use proto::position::Position;
use proto::reason::CloseReason;
use smallvec::SmallVec;

/// Control frames do not count against the budget, but a peer that makes us say more and more and
/// never reads is closed when they alone are over the budget; looked at once the outbox holds this
/// many budgets.
const CONTROL_FACTOR: usize = 2;

/// [`Outbox::attempt`] of who is in [`Kept`]: whatever else it gathers in this turn comes after
/// what it had to keep.
const KEPT: u32 = u32::MAX;

/// Who found no room in a turn's copies, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Kept {
    connections: Vec<u32>,
    streams: Vec<u32>,
    /// How many connections at the front of the list of dirty ones come before any stream.
    first: usize,
    /// Streams go before connections this turn.
    streams_first: bool,
}

/// What the policy decided.
enum Verdict {
    Keep,
    Close,
}

impl Shard {
    /// Ends the turn: turns what was gathered into sends.
    pub fn flush(&mut self) {
        self.sends.clear();
        let said = Stamp::at(self.now.ms);
        for at in 0..std::mem::take(&mut self.kept.first) {
            self.flush_connection(self.dirty[at], said, false);
        }
        // What follows has streams that were flushed: their bytes are copied already.
        let known = self.dirty.len();
        // Flushing an HTTP/2 connection may find requests that make streams and connections dirty:
        // no run is left behind, since it would not survive the end of the turn.
        let (mut at, mut stream_at) = (0, 0);
        loop {
            while let Some(index) = self.dirty_streams.get(stream_at) {
                self.flush_stream(*index);
                stream_at += 1;
            }
            let Some(slot) = self.dirty.get(at) else { break };
            self.flush_connection(*slot, said, at >= known);
            at += 1;
        }
        self.copied_bytes = self.frames.copied();
        self.stats.counters.frames_encoded += self.frames.made.frames;
        self.stats.counters.flat_runs += self.frames.made.flat_runs;
        self.count_coded();
        self.frames.clear();
        self.prepare_next_turn();
        self.stats.counters.turns += 1;
        self.stats.counters.sends += self.sends.len() as u64;
        for (accepted_us, recipients) in self.delivered.drain(..) {
            let took_us = (self.now.wall_us - accepted_us).max(0) as u64;
            self.stats.delivered(took_us, recipients);
        }
    }

    fn count_coded(&mut self) {
        let done = std::mem::take(&mut self.frames.coders.done);
        let counters = &mut self.stats.counters;
        counters.deflate_in += done.deflate_in;
        counters.deflate_out += done.deflate_out;
        counters.delta_in += done.delta_in;
        counters.delta_out += done.delta_out;
    }

    /// Who was kept is dirty before all others, and frames that were carried are back with those
    /// that gathered them. Where connections and streams wait, one kind is first every other turn.
    fn prepare_next_turn(&mut self) {
        self.dirty.clear();
        self.dirty_streams.clear();
        let Self { kept, connections, streams, frames, .. } = self;
        kept.streams_first = !kept.streams_first && !kept.streams.is_empty();
        kept.first = if kept.streams_first { 0 } else { kept.connections.len() };
        // One that was sent after all keeps its place: the list of sends is looked at after this.
        for slot in &kept.connections {
            if let Some(connection) = connections.slot(*slot)
                && connection.outbox.attempt == KEPT
            {
                connection.outbox.attempt = 0;
            }
        }
        for index in &kept.streams {
            if let Some(stream) = streams.get_mut(*index) {
                stream.outbox.attempt = 0;
            }
        }
        self.dirty.append(&mut kept.connections);
        self.dirty.append(&mut self.again);
        self.dirty_streams.append(&mut kept.streams);
        for (endpoint, serial, frame) in self.carried.drain(..) {
            let outbox = match endpoint.split() {
                Err(slot) => connections.slot(slot).map(|connection| &mut connection.outbox),
                Ok(index) => streams
                    .get_mut(index)
                    .filter(|stream| stream.serial == serial)
                    .map(|stream| &mut stream.outbox),
            };
            if let Some(outbox) = outbox {
                let index = frames.add(frame.bytes, frame.mark);
                frames.gather(&mut outbox.run, index);
            }
        }
    }

    /// The path of every broadcast: a reference, an index, no lookup beyond the slot. `must`: what
    /// it sends is held already, so it waits for no room.
    #[inline]
    fn flush_connection(&mut self, slot: u32, said: Stamp, must: bool) {
        let Some(connection) = self.connections.slot(slot) else { return };
        let run = connection.outbox.run;
        let has_room = self.frames.copied() < self.settings.frame_bytes_max;
        if !is_simple(connection, &self.sends) || !has_room && !self.frames.is_flat(run) {
            return self.flush_special(slot, must);
        }
        if run.is_empty() {
            return;
        }
        connection.outbox.run = Run::default();
        let bytes = self.frames.flatten(run);
        connection.outbox.attempt = self.sends.len() as u32;
        connection.said = said;
        connection.sent_bytes += bytes.len() as u64;
        self.stats.counters.bytes_sent += bytes.len() as u64;
        self.sends.push(Send { conn: connection.id, bytes });
    }

    #[inline(never)]
    fn flush_special(&mut self, slot: u32, must: bool) {
        let Some(connection) = self.connections.slot(slot) else { return };
        if connection.outbox.state == SendState::Blocked {
            self.queue(slot);
            return;
        }
        if attempted(&self.sends, connection) {
            // One attempt a turn: what came after it waits for the next.
            if self.carry(EndpointId::connection(slot)) {
                self.again.push(slot);
            }
            return;
        }
        let is_kept = connection.outbox.attempt == KEPT;
        let is_full = self.frames.copied() >= self.settings.frame_bytes_max;
        if !must && (is_kept || is_full && connection.end == End::Open) {
            if std::mem::replace(&mut connection.outbox.attempt, KEPT) != KEPT {
                self.kept.connections.push(slot);
            }
            self.carry(EndpointId::connection(slot));
            return;
        }
        let run = std::mem::take(&mut connection.outbox.run);
        let conn = connection.id;
        let Some(plain) = self.gather_bytes(conn, run) else { return };
        self.attempt(conn, plain);
    }

    /// A run does not outlive its turn: its frames are carried over by reference. `false`: it was
    /// empty.
    fn carry(&mut self, endpoint: EndpointId) -> bool {
        let Some(outbox) = self.outbox_mut(endpoint) else { return false };
        let run = std::mem::take(&mut outbox.run);
        let serial = self.serial_of(endpoint);
        let frames = self.frames.frames(run);
        self.carried.extend(frames.map(|frame| (endpoint, serial, frame.clone())));
        !run.is_empty()
    }

    /// What tells a stream from the next one with its index; a connection's slot is not given again
    /// within a turn.
    fn serial_of(&self, endpoint: EndpointId) -> u32 {
        endpoint.split().ok().and_then(|index| self.streams.get(index)).map_or(0, |it| it.serial)
    }

    /// Everything a connection has to say this turn, in the clear.
    fn gather_bytes(&mut self, conn: ConnId, run: Run) -> Option<Bytes> {
        let mut bytes = self.write_run(EndpointId::connection(conn.slot), run);
        self.refill_http2(conn);
        if let Some(output) = self.pump_http2(conn) {
            if bytes.is_empty() {
                bytes = output;
            } else {
                let mut joined = bytes.to_vec();
                joined.extend_from_slice(&output);
                bytes = joined.into();
            }
            self.again.push(conn.slot);
        }
        let pending =
            self.connections.get(conn)?.tls.as_ref().is_some_and(|t| !t.pending.is_empty());
        (!bytes.is_empty() || pending).then_some(bytes)
    }

    /// What a run says, with cursors if its endpoint has them.
    fn write_run(&mut self, endpoint: EndpointId, run: Run) -> Bytes {
        if run.is_empty() {
            return Bytes::new();
        }
        if !self.subscriber_mut(endpoint).is_some_and(|own| own.has_cursor) {
            return self.frames.flatten(run);
        }
        let Some(mut subscriber) = self.take_subscriber(endpoint) else { return Bytes::new() };
        let mut writer = CursorWriter::new(&mut subscriber, &self.local);
        for frame in self.frames.frames(run) {
            writer.push(&frame.bytes, frame.mark);
        }
        let bytes = writer.finish();
        self.frames.count_copy(bytes.len());
        self.set_subscriber(endpoint, subscriber);
        bytes.into()
    }

    /// One attempt to send, encrypted if need be.
    fn attempt(&mut self, conn: ConnId, plain: Bytes) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Some(bytes) = encrypt(connection, plain) else {
            self.end_connection(conn, CloseReason::Internal);
            return;
        };
        self.frames.count_copy(bytes.len());
        connection.outbox.attempt = self.sends.len() as u32;
        connection.said = Stamp::at(self.now.ms);
        connection.sent_bytes += bytes.len() as u64;
        self.stats.counters.bytes_sent += bytes.len() as u64;
        self.sends.push(Send { conn, bytes });
    }

    /// Moves a blocked connection's run into its backlog and applies the policy.
    fn queue(&mut self, slot: u32) {
        let Some(connection) = self.connections.slot(slot) else { return };
        let conn = connection.id;
        move_run(&mut self.frames, &mut connection.outbox);
        if let Verdict::Close = self.police(EndpointId::connection(slot)) {
            self.close_slow(conn);
        }
    }

    /// Applies the outbox policy of an endpoint's namespace.
    fn police(&mut self, endpoint: EndpointId) -> Verdict {
        if let Err(slot) = endpoint.split()
            && let Some(connection) = self.connections.slot(slot)
            && matches!(connection.session, Session::Http1(_))
        {
            // An answer is no subscription: it is made piece by piece as its client takes it.
            return Verdict::Keep;
        }
        let budget = self.settings.limits.outbox_bytes_max as usize;
        let Some(backlog) = self.outbox_mut(endpoint).and_then(|outbox| outbox.backlog.as_ref())
        else {
            return Verdict::Keep;
        };
        if backlog.bytes() > budget.saturating_mul(CONTROL_FACTOR)
            && backlog.control_bytes() > budget
        {
            return Verdict::Close;
        }
        if !backlog.is_over(budget) {
            return Verdict::Keep;
        }
        // Without subscriptions it ends: nothing is added any more, and who throws away now loses
        // the word that says why.
        let Some(subscriber) = self.subscriber_mut(endpoint) else { return Verdict::Keep };
        let format = subscriber.format;
        let channels: SmallVec<[u32; 16]> = subscriber.keys().iter().map(|k| k.channel).collect();
        // With several channels the strictest decides: what may not be dropped is not.
        let drops = |channel: &u32| {
            let namespace = self.local.peek(*channel).map(|channel| channel.namespace);
            let namespace = namespace.map(|namespace| self.settings.namespace_at(namespace));
            namespace.is_some_and(|it| it.outbox_policy == OutboxPolicy::DropOldest)
        };
        let may_drop = !channels.is_empty() && channels.iter().all(drops);
        if !format.carries_notices() || !may_drop {
            return Verdict::Close;
        }
        let Some(outbox) = self.outbox_mut(endpoint) else { return Verdict::Keep };
        let dropped = outbox.backlog.as_mut().map_or(0, |backlog| backlog.drop_oldest(budget));
        self.stats.dropped(DropReason::DropOldest, dropped);
        if let Some(at) = self.place_of(endpoint)
            && let Some(connection) = self.connections.get(at.conn)
        {
            connection.dropped_events = connection.dropped_events.saturating_add(dropped as u32);
        }
        Verdict::Keep
    }

    fn outbox_mut(&mut self, endpoint: EndpointId) -> Option<&mut Outbox> {
        match endpoint.split() {
            Err(slot) => self.connections.slot(slot).map(|connection| &mut connection.outbox),
            Ok(index) => self.streams.get_mut(index).map(|stream| &mut stream.outbox),
        }
    }

    /// The end of a stream whose client reads too slowly: what it has not been sent is thrown away.
    pub(super) fn close_slow_stream(&mut self, index: u32) {
        let stream = self.streams.get_mut(index);
        let backlog = stream.and_then(|stream| stream.outbox.backlog.as_mut());
        let discarded = backlog.map_or(0, |backlog| backlog.discard());
        self.stats.dropped(DropReason::Slow, discarded);
        self.end_endpoint(EndpointId::stream(index), CloseReason::Slow);
    }

    /// The close of a client that reads too slowly. What it has not been sent is thrown away; the
    /// reason carries the position up to which it was.
    pub(super) fn close_slow(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        // What this turn gathered comes after what is thrown away, so it goes, too.
        move_run(&mut self.frames, &mut connection.outbox);
        let Some(connection) = self.connections.get(conn) else { return };
        let waiting = connection.outbox.backlog.as_ref().and_then(|b| b.first_waiting());
        let mut position = self.position_queued(conn);
        if let (Some(position), Some(first)) = (&mut position, waiting) {
            position.offset = first.saturating_sub(1);
        }
        let Some(connection) = self.connections.get(conn) else { return };
        let discarded = connection.outbox.backlog.as_mut().map_or(0, |backlog| backlog.discard());
        self.stats.dropped(DropReason::Slow, discarded);
        self.end_with_position(conn, CloseReason::Slow, position);
    }

    /// The last position that a client has been sent once everything queued for it is out; none
    /// with several channels, which have one each.
    pub(super) fn position_queued(&mut self, conn: ConnId) -> Option<Position> {
        let connection = self.connections.get(conn)?;
        let [key] = *connection.subscriber.as_ref()?.keys() else { return None };
        let channel = self.local.peek(key.channel)?;
        let entry = channel.entries.get(key.at as usize)?;
        Some(Position { epoch: channel.epoch()?, offset: entry.next.saturating_sub(1) })
    }

    /// Gives a stream's run to its session, or to its backlog while the windows are full.
    fn flush_stream(&mut self, index: u32) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.outbox.attempt == KEPT {
            self.carry(EndpointId::stream(index));
            return;
        }
        let (conn, key) = (stream.conn, stream.key);
        let waits = stream.outbox.backlog.is_some();
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http2(http2) = &mut connection.session else { return };
        let slot = conn.slot;
        self.dirty.push(slot);
        if waits || http2.session.send_capacity(key) == 0 {
            let Some(stream) = self.streams.get_mut(index) else { return };
            if stream.outbox.backlog.is_none() {
                stream.outbox.backlog = Some(Box::new(Backlog::new(self.now.ms)));
            }
            move_run(&mut self.frames, &mut stream.outbox);
            if let Verdict::Close = self.police(EndpointId::stream(index)) {
                self.close_slow_stream(index);
            }
            return;
        }
        let Some(stream) = self.streams.get_mut(index) else { return };
        if self.frames.copied() >= self.settings.frame_bytes_max
            && !self.frames.is_flat(stream.outbox.run)
        {
            stream.outbox.attempt = KEPT;
            self.kept.streams.push(index);
            self.carry(EndpointId::stream(index));
            return;
        }
        stream.said_ms = self.now.ms;
        let run = std::mem::take(&mut stream.outbox.run);
        let bytes = self.write_run(EndpointId::stream(index), run);
        self.send_on_stream(index, bytes);
    }

    /// Hands bytes to a stream.
    fn send_on_stream(&mut self, index: u32, bytes: Bytes) {
        let Some(stream) = self.streams.get(index) else { return };
        let (conn, key) = (stream.conn, stream.key);
        if bytes.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http2(http2) = &mut connection.session else { return };
        if http2.session.send_data(key, bytes, false).is_err() {
            self.end_http2_stream(index);
        }
    }

    /// Gives the backlogs of a connection's streams to the session where its windows are open.
    fn refill_http2(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http2(http2) = &connection.session else { return };
        let indices: Vec<u32> = http2.sse_indices().collect();
        for index in indices {
            let Some(stream) = self.streams.get(index) else { continue };
            if stream.outbox.backlog.is_none() {
                continue;
            }
            let key = stream.key;
            let Some(connection) = self.connections.get(conn) else { return };
            let Session::Http2(http2) = &connection.session else { return };
            if http2.session.send_capacity(key) == 0 {
                continue;
            }
            match self.next_piece(EndpointId::stream(index)) {
                Some(bytes) => self.send_on_stream(index, bytes),
                None => {
                    if let Some(stream) = self.streams.get_mut(index) {
                        stream.outbox.backlog = None;
                    }
                }
            }
        }
    }
}

/// True if the connection is ready for bytes and sends them as they are.
#[inline]
fn is_simple(connection: &Connection, sends: &[Send]) -> bool {
    let outbox = &connection.outbox;
    outbox.state != SendState::Blocked
        && outbox.attempt != KEPT
        && !attempted(sends, connection)
        && connection.tls.is_none()
        && !matches!(connection.session, Session::Http2(_))
        && !connection.subscriber.as_ref().is_some_and(|subscriber| subscriber.has_cursor)
}

/// True if the connection's attempt of the present list of sends has been made.
#[inline]
fn attempted(sends: &[Send], connection: &Connection) -> bool {
    let send = sends.get(connection.outbox.attempt as usize);
    send.is_some_and(|send| send.conn == connection.id)
}

/// Appends a run's frames, by reference, to the backlog of a blocked outbox.
fn move_run(frames: &mut TurnFrames, outbox: &mut Outbox) {
    let Some(backlog) = &mut outbox.backlog else { return };
    for frame in frames.frames(std::mem::take(&mut outbox.run)) {
        backlog.push(frame.clone());
    }
}

/// Encrypts what goes out, with whatever the TLS session has to say before it. `None`: TLS failed.
fn encrypt(connection: &mut Connection, plain: Bytes) -> Option<Bytes> {
    let Some(tls) = &mut connection.tls else { return Some(plain) };
    let mut out = std::mem::take(&mut tls.pending);
    // A failed session takes nothing more, but its alert must still reach the peer.
    if !plain.is_empty() && tls.session.write(&plain, &mut out).is_err() && out.is_empty() {
        return None;
    }
    if connection.end == End::Flushing && connection.outbox.run.is_empty() {
        tls.session.close_notify(&mut out);
    }
    Some(out.into())
}
