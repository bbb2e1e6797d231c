//! What waited: a backlog is sent piece by piece as its socket or window takes it.
//!
//! A piece is flattened here, with the words on what a policy dropped where it was, and with
//! cursors for event streams of several channels. Tested with the flush.

use super::super::channels::LocalChannels;
use super::super::connection::{End, EndpointId, Stamp};
use super::super::cursor::CursorWriter;
use super::super::format::Format;
use super::super::frames::Mark;
use super::super::notices;
use super::super::outbox::{DRAIN_BYTES, DroppedRun, Entry, SendState};
use super::super::{Command, Shard};
use super::encrypt;
use crate::driver::ConnId;
use bytes::Bytes;

impl Shard {
    /// A complete send is done: the next piece of the backlog, or idle again.
    pub(in crate::shard) fn drain_backlog(&mut self, conn: ConnId) {
        let Some(bytes) = self.next_piece(EndpointId::connection(conn.slot)) else {
            let Some(connection) = self.connections.get(conn) else { return };
            connection.outbox.state = SendState::Idle;
            connection.outbox.backlog = None;
            connection.said = Stamp::at(self.now.ms);
            if connection.end == End::Flushing {
                self.flushing.push(conn);
            }
            // HTTP/2 output or TLS records may have waited for this.
            self.dirty.push(conn.slot);
            return;
        };
        let Some(connection) = self.connections.get(conn) else { return };
        connection.said = Stamp::at(self.now.ms);
        let Some(bytes) = encrypt(connection, bytes) else {
            self.close_now(conn);
            return;
        };
        if let Some(backlog) = &mut connection.outbox.backlog {
            backlog.set_armed(bytes.len());
        }
        connection.sent_bytes += bytes.len() as u64;
        self.stats.counters.bytes_sent += bytes.len() as u64;
        self.commands.push(Command::SendArmed(conn, bytes));
    }

    /// Takes the next piece of an endpoint's backlog, notices written in its format, with cursors
    /// if it has them.
    pub(super) fn next_piece(&mut self, endpoint: EndpointId) -> Option<Bytes> {
        let own = self.subscriber_mut(endpoint);
        let (format, has_cursor) = own.map(|s| (s.format, s.has_cursor)).unwrap_or_default();
        if has_cursor {
            return self.next_piece_with_cursors(endpoint, format);
        }
        let Self { connections, streams, local, .. } = self;
        let outbox = match endpoint.split() {
            Err(slot) => &mut connections.slot(slot)?.outbox,
            Ok(index) => &mut streams.get_mut(index)?.outbox,
        };
        outbox.backlog.as_mut()?.take(&mut |run, out| say_dropped(local, run, format, out))
    }

    fn next_piece_with_cursors(&mut self, endpoint: EndpointId, format: Format) -> Option<Bytes> {
        let mut subscriber = self.take_subscriber(endpoint)?;
        let Self { connections, streams, local, .. } = self;
        let outbox = match endpoint.split() {
            Err(slot) => connections.slot(slot).map(|connection| &mut connection.outbox),
            Ok(index) => streams.get_mut(index).map(|stream| &mut stream.outbox),
        };
        let backlog = outbox.and_then(|outbox| outbox.backlog.as_mut());
        let mut writer = CursorWriter::new(&mut subscriber, local);
        let mut taken = 0;
        if let Some(backlog) = backlog {
            while writer.bytes() < DRAIN_BYTES
                && let Some(entry) = backlog.pop()
            {
                taken += 1;
                match entry {
                    Entry::Frame(frame) => writer.push(&frame.bytes, frame.mark),
                    Entry::Dropped(run) => {
                        let mut text = Vec::new();
                        say_dropped(local, run, format, &mut text);
                        let (channel, offset) = (run.channel, run.last);
                        writer.push(&text, Mark::Event { channel, offset });
                    }
                }
            }
        }
        let bytes = writer.finish();
        self.set_subscriber(endpoint, subscriber);
        (taken > 0).then(|| bytes.into())
    }

    /// Before an endpoint loses its subscriptions: what was dropped of them is written down.
    pub(in crate::shard) fn write_notices(&mut self, endpoint: EndpointId) {
        let Some(format) = self.subscriber_mut(endpoint).map(|s| s.format) else { return };
        let Self { connections, streams, local, .. } = self;
        let outbox = match endpoint.split() {
            Err(slot) => connections.slot(slot).map(|connection| &mut connection.outbox),
            Ok(index) => streams.get_mut(index).map(|stream| &mut stream.outbox),
        };
        if let Some(backlog) = outbox.and_then(|outbox| outbox.backlog.as_mut()) {
            backlog.write_notices(&mut |run, out| say_dropped(local, run, format, out));
        }
    }
}

fn say_dropped(local: &LocalChannels, run: DroppedRun, format: Format, out: &mut Vec<u8>) {
    let name = local.peek(run.channel).map_or("", |channel| channel.name.as_str());
    notices::dropped(out, name, run.first, run.last, format);
}
