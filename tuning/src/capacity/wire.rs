//! What a message takes on the wire, part by part.
//!
//! Messages that leave together share a TLS record and a segment, so the parts are of a send of
//! `batch` messages, divided by the batch. The link carries all of it; a provider counts what is
//! above Ethernet ([`billed_bytes`], for plans and for servers that run).

use super::inputs::{Load, Transport, Wire};
use super::plan::WirePart;

/// A message on its way to one client, on average over the messages of its send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outgoing {
    /// Messages in a send.
    pub(super) batch: f64,
    /// What is left of the payload.
    pub(super) payload: f64,
    pub(super) framing: f64,
    pub(super) tls: f64,
    pub(super) tcp_ip: f64,
    pub(super) ethernet: f64,
    /// TCP segments of a send.
    pub(super) segments: f64,
}

impl Outgoing {
    /// What the link carries.
    pub(super) fn on_link(&self) -> f64 {
        self.billed() + self.ethernet
    }

    /// What a provider counts: the same as [`billed_bytes`] of the send, for each message in it.
    pub(super) fn billed(&self) -> f64 {
        self.payload + self.framing + self.tls + self.tcp_ip
    }

    /// For people.
    pub(super) fn parts(&self, wire: &Wire) -> Vec<WirePart> {
        let framing = match wire.transport {
            Transport::Ws => "WebSocket frame",
            Transport::Sse => "SSE `id:` and `data:`",
        };
        let part = |name: &str, bytes| WirePart { name: name.to_owned(), bytes };
        let mut parts = vec![part("payload", self.payload), part(framing, self.framing)];
        if wire.tls {
            parts.push(part("TLS record", self.tls));
        }
        parts.extend([part("TCP and IP", self.tcp_ip), part("Ethernet", self.ethernet)]);
        parts
    }
}

/// A message to a client who gets so many of them in a second.
pub(super) fn outgoing(load: &Load, wire: &Wire, per_connection_s: f64) -> Outgoing {
    let after_delta = load.message_bytes * wire.delta;
    let deflated = deflates(wire) && after_delta >= wire.deflate_bytes_min;
    let payload = if deflated { after_delta * wire.deflate } else { after_delta };
    let framing = match wire.transport {
        Transport::Ws => ws_head(payload),
        Transport::Sse => SSE_BYTES,
    };
    // The first message opens the window; those that come within it leave with it.
    let batch = 1.0 + per_connection_s * wire.batch_ms / 1_000.0;
    let sent = Sent::of(batch * (payload + framing), wire.tls);
    Outgoing {
        batch,
        payload,
        framing,
        tls: sent.tls / batch,
        tcp_ip: tcp_ip_bytes(1.0, sent.body + sent.tls) / batch,
        ethernet: sent.segments * ETHERNET_BYTES / batch,
        segments: sent.segments,
    }
}

/// permessage-deflate is of WebSockets.
pub(super) fn deflates(wire: &Wire) -> bool {
    wire.deflate < 1.0 && wire.transport == Transport::Ws
}

/// A heartbeat to a client: with what acknowledges its answer, where there is one.
pub(super) fn heartbeat_out(wire: &Wire) -> f64 {
    match wire.transport {
        Transport::Ws => Sent::of(2.0, wire.tls).on_link() + ACK_BYTES,
        Transport::Sse => Sent::of(3.0, wire.tls).on_link(),
    }
}

/// A heartbeat as a provider counts it.
pub(super) fn heartbeat_billed(wire: &Wire) -> f64 {
    let sent = Sent::of(if wire.transport == Transport::Ws { 2.0 } else { 3.0 }, wire.tls);
    billed_bytes(1.0, sent.body + sent.tls)
}

/// What a cloud bills for so many sends with so many bytes together, frames and TLS included: with
/// TCP's and IP's own bytes, without Ethernet's. Every send is taken to be of the average size.
/// Acknowledgements without data are left out, since a server does not see them.
pub fn billed_bytes(sends: f64, bytes: f64) -> f64 {
    bytes + tcp_ip_bytes(sends, bytes)
}

fn tcp_ip_bytes(sends: f64, bytes: f64) -> f64 {
    // What leaves without a send of its own still leaves in segments.
    let sends = sends.max(1.0);
    if bytes > 0.0 { sends * segments(bytes / sends) * TCP_IP_BYTES } else { 0.0 }
}

/// TCP segments of a send.
fn segments(bytes: f64) -> f64 {
    (bytes / SEGMENT_BYTES).ceil().max(1.0)
}

/// What comes back for it: a masked pong, or TCP's acknowledgement.
pub(super) fn heartbeat_in(wire: &Wire) -> f64 {
    match wire.transport {
        Transport::Ws => Sent::of(6.0, wire.tls).on_link(),
        Transport::Sse => ACK_BYTES,
    }
}

/// A message that a user publishes: over the WebSocket, or as a request of its own.
pub(super) fn incoming(load: &Load, wire: &Wire) -> f64 {
    let head = match wire.transport {
        Transport::Ws => ws_head(load.message_bytes) + MASK_BYTES,
        Transport::Sse => REQUEST_BYTES,
    };
    Sent::of(load.message_bytes + head, wire.tls).on_link()
}

/// An event that a service publishes on an HTTP/2 stream.
pub(super) fn ingested(load: &Load, wire: &Wire) -> f64 {
    Sent::of(load.message_bytes + H2_BYTES, wire.tls).on_link()
}

/// TCP acknowledges every second segment, and the last one.
pub(super) fn acknowledged(out: &Outgoing) -> f64 {
    (out.segments / 2.0).ceil() * ACK_BYTES / out.batch
}

/// Bytes in records and segments.
#[derive(Debug, Clone, Copy)]
struct Sent {
    body: f64,
    tls: f64,
    segments: f64,
}

impl Sent {
    fn of(body: f64, tls: bool) -> Self {
        let records = (body / TLS_RECORD_MAX).ceil();
        let tls = if tls { records * TLS_BYTES } else { 0.0 };
        Self { body, tls, segments: segments(body + tls) }
    }

    fn on_link(self) -> f64 {
        self.body + self.tls + self.segments * (TCP_IP_BYTES + ETHERNET_BYTES)
    }
}

/// A frame's head from the server (RFC 6455, section 5.2).
fn ws_head(payload: f64) -> f64 {
    match payload {
        bytes if bytes < 126.0 => 2.0,
        bytes if bytes < 65_536.0 => 4.0,
        _ => 10.0,
    }
}

/// From a client every frame has a mask.
const MASK_BYTES: f64 = 4.0;
/// `id: `, a position of 24 letters, `data: ` and three line ends.
const SSE_BYTES: f64 = 37.0;
/// Request line and fields of a browser's small POST, about.
const REQUEST_BYTES: f64 = 350.0;
/// Frame head and compressed fields, about.
const H2_BYTES: f64 = 40.0;
/// Head, content type and tag of a record of TLS 1.3.
const TLS_BYTES: f64 = 22.0;
const TLS_RECORD_MAX: f64 = 16_384.0;
/// IPv4 20, TCP 20, its timestamps 12.
const TCP_IP_BYTES: f64 = 52.0;
/// Preamble 8, head 14, checksum 4, gap 12.
const ETHERNET_BYTES: f64 = 38.0;
/// An Ethernet of 1,500 without IP and TCP.
const SEGMENT_BYTES: f64 = 1_448.0;
/// A segment without data.
const ACK_BYTES: f64 = TCP_IP_BYTES + ETHERNET_BYTES;
