//! Answers over HTTP/2 that come in pieces.

use super::{Doing, Http2, head_of};
use crate::driver::ConnId;
use crate::mesh::Place;
use crate::shard::Shard;
use crate::shard::http::Response;
use crate::shard::http::origin::{self, CorsOrigin};
use crate::shard::publish::PublishId;
use crate::shard::session::Session;
use bytes::Bytes;
use proto::h2::{Reason, StreamKey};

impl Shard {
    /// The head of a stream's answer goes out before its first item came.
    pub(super) fn start_acks(
        &mut self,
        http2: &mut Http2,
        stream: StreamKey,
        publish: PublishId,
        cors: &CorsOrigin,
    ) {
        let Some(mut response) = self.publishes.get(publish).and_then(|p| p.stream_response())
        else {
            return;
        };
        origin::add_cors(&mut response, cors);
        if let Some(head) = head_of(&response) {
            self.stats.answered(200);
            // A stream that is gone meanwhile needs no answer.
            let _ = http2.session.respond(stream, head, false);
        }
    }

    /// Starts an answer that comes in pieces.
    pub(in crate::shard) fn start_stream_http2(
        &mut self,
        conn: ConnId,
        stream: StreamKey,
        mut response: Response,
    ) {
        let Some(http2) = self.http2(conn) else { return };
        let mut ends = false;
        if let Some(Doing::Waiting { cors, head_only }) = http2.streams.get(&stream) {
            origin::add_cors(&mut response, cors);
            ends = *head_only;
        }
        if let Some(head) = head_of(&response) {
            // A stream that is gone meanwhile, or was asked for its head, takes no pieces either.
            let _ = http2.session.respond(stream, head, ends);
        }
        self.stats.answered(response.status);
        self.dirty.push(conn.slot);
    }

    /// Makes the answer a stream that is an endpoint; gives its place.
    pub(in crate::shard) fn stream_http2(
        &mut self,
        conn: ConnId,
        stream: StreamKey,
        mut response: Response,
    ) -> Option<Place> {
        let connection = self.connections.get(conn)?;
        let Session::Http2(http2) = &mut connection.session else { return None };
        let Some(Doing::Publish { cors, .. }) = http2.streams.remove(&stream) else { return None };
        origin::add_cors(&mut response, &cors);
        http2.session.respond(stream, head_of(&response)?, false).ok()?;
        self.stats.answered(200);
        let index = self.streams.insert(conn, stream, self.now.ms);
        http2.streams.insert(stream, Doing::Sse { index });
        self.dirty.push(conn.slot);
        Some(self.streams.get(index)?.place(index))
    }

    /// A piece of such an answer.
    pub(in crate::shard) fn piece_http2(
        &mut self,
        conn: ConnId,
        stream: StreamKey,
        piece: Bytes,
        last: bool,
    ) {
        let Some(http2) = self.http2(conn) else { return };
        let _ = http2.session.send_data(stream, piece, last);
        if last {
            http2.streams.remove(&stream);
        }
        self.dirty.push(conn.slot);
    }

    /// The last piece of an answer to a request that is still open. To end the response now would
    /// reset the stream, and many clients then drop what they have not read: the peer ends its
    /// request first, or [`Self::stop_lingering`] does it for both.
    pub(in crate::shard) fn last_piece_http2(
        &mut self,
        conn: ConnId,
        stream: StreamKey,
        piece: Bytes,
    ) {
        let Some(http2) = self.http2(conn) else { return };
        let _ = http2.session.send_data(stream, piece, false);
        http2.streams.insert(stream, Doing::Ending);
        self.dirty.push(conn.slot);
    }

    /// Ends a response whose request was not ended in time.
    pub(in crate::shard) fn stop_lingering(&mut self, conn: ConnId, stream: StreamKey) {
        let Some(http2) = self.http2(conn) else { return };
        if matches!(http2.streams.get(&stream), Some(Doing::Ending)) {
            http2.end_stream(stream);
            self.dirty.push(conn.slot);
        }
    }

    /// Breaks an answer off.
    pub(in crate::shard) fn reset_http2(&mut self, conn: ConnId, stream: StreamKey) {
        let Some(http2) = self.http2(conn) else { return };
        http2.streams.remove(&stream);
        http2.session.reset(stream, Reason::INTERNAL_ERROR);
        self.dirty.push(conn.slot);
    }
}
