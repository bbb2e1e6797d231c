//! Connections and endpoints: plain data, one slot for each socket of the shard.
//!
//! An *endpoint* is what a subscription belongs to: a connection (WebSocket, SSE over HTTP/1.1) or
//! one stream of an HTTP/2 connection. Both hold a [`Subscriber`] and an [`Outbox`]; delivery does
//! not know the difference, only the flush does. State is plain data on purpose: a later version
//! hands live connections to a new process.

use super::frames::Format;
use super::outbox::Outbox;
use super::session::Session;
use crate::driver::ConnId;
use crate::mesh::Since;
use proto::reason::CloseReason;
use proto::tls::TlsSession;
use smallvec::SmallVec;

/// Names an endpoint: a connection slot, or an HTTP/2 stream slot with the top bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(u32);

impl EndpointId {
    const STREAM: u32 = 1 << 31;

    /// A connection's own endpoint.
    pub fn connection(slot: u32) -> Self {
        debug_assert!(slot < Self::STREAM);
        Self(slot)
    }

    /// A stream's endpoint.
    pub fn stream(index: u32) -> Self {
        debug_assert!(index < Self::STREAM);
        Self(index | Self::STREAM)
    }

    /// The stream's index, or the connection's slot.
    pub fn split(self) -> Result<u32, u32> {
        if self.0 & Self::STREAM == 0 { Err(self.0) } else { Ok(self.0 & !Self::STREAM) }
    }
}

/// One channel of a subscriber: where its entry stands in the channel's list.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionKey {
    /// The local channel.
    pub channel: u32,
    /// Index in the channel's list; the list keeps it true when entries move.
    pub at: u32,
}

/// The subscriptions of one endpoint.
#[derive(Debug)]
pub struct Subscriber {
    /// How events are written.
    pub format: Format,
    /// True if every flush ends with the cursor over all channels (SSE with several channels).
    pub cursor: bool,
    /// Entries in the order of the request. `None` once closed or refused.
    pub subscriptions: SmallVec<[Option<SubscriptionKey>; 1]>,
    /// FNV of the channel list, for the cursor.
    pub channels_hash: u32,
    /// Where each channel was asked to start: what the cursor says of it until its join is
    /// answered. Empty without a cursor.
    pub starts: Box<[Since]>,
}

/// A socket of the shard.
#[derive(Debug)]
pub struct Connection {
    /// The driver's name for it.
    pub id: ConnId,
    /// Its outgoing side.
    pub outbox: Outbox,
    /// What is spoken on it.
    pub session: Session,
    /// Encryption, if the listener has it.
    pub tls: Option<Box<Tls>>,
    /// Subscriptions of a WebSocket or SSE connection.
    pub subscriber: Option<Box<Subscriber>>,
    /// When bytes last came in, milliseconds.
    pub heard_ms: u64,
    /// When something was last sent, milliseconds.
    pub said_ms: u64,
    /// When it was accepted, milliseconds.
    pub accepted_ms: u64,
    /// What the session waits for at most until then; the wheel's entry is this or earlier.
    pub deadline_ms: u64,
    /// Why it ends, once that is decided.
    pub closing: Option<CloseReason>,
    /// Phases of the end, see `closing`.
    pub end: End,
    /// Bytes given to the socket so far.
    pub sent_bytes: u64,
    /// Events that the `drop_oldest` policy took from it.
    pub dropped_events: u32,
    /// Unfinished input, as charged to the shard's pool.
    pub partial_bytes: u32,
    /// The peer sends no more.
    pub peer_done: bool,
    /// Receiving is stopped by back-pressure.
    pub receive_paused: bool,
    /// The receive side is in multishot mode.
    pub chatty: bool,
}

/// How far a connection's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It lives.
    #[default]
    Open,
    /// The last bytes are queued; half-close once they are out.
    Flushing,
    /// Half-closed: what still comes in is thrown away until the peer closes too, so that our last
    /// bytes are not destroyed by a reset.
    Lingering,
    /// The driver was told to close.
    Closed,
}

/// TLS state and ciphertext that has to go out before anything else.
pub struct Tls {
    /// The machine.
    pub session: TlsSession,
    /// Handshake messages, alerts and tickets.
    pub pending: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({} bytes pending)", self.pending.len())
    }
}

/// The shard's sockets, by slot. The slot numbers are the driver's.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    live: usize,
}

impl Connections {
    /// Adds a connection under the slot the driver gave it.
    pub fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "driver reused a slot that is not closed");
        self.slots[slot] = Some(Box::new(connection));
        self.live += 1;
    }

    /// The connection in a slot.
    #[inline]
    pub fn slot(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The connection of an id, if the id is not stale.
    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slot(id.slot).filter(|connection| connection.id == id)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        self.get(id)?;
        self.live -= 1;
        self.slots.get_mut(id.slot as usize)?.take()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten().map(|connection| &**connection)
    }

    /// Slots ever used; slots are dense from 0.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Bytes of the table and its boxes, without what they point to.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Box<Connection>>>()
            + self.live * size_of::<Connection>()
    }
}

/// What one idle subscribed WebSocket costs here, against what the budget plans with: the slot, the
/// session, the subscriber, its place in the channel's list and its timer.
pub const IDLE_WEB_SOCKET_BYTES: usize = size_of::<Option<Box<Connection>>>()
    + size_of::<Connection>()
    + size_of::<super::session_ws::WebSocket>()
    + size_of::<Subscriber>()
    + 2 * size_of::<super::channels::Entry>()
    + 16;

const _: () = assert!(
    IDLE_WEB_SOCKET_BYTES as u64 <= crate::config::budget::CONNECTION_BYTES / 2,
    "an idle connection costs more than half of what the budget plans per connection"
);
