//! Connections and endpoints: plain data, one slot for each socket of the shard.
//!
//! An *endpoint* is what a subscription belongs to: a connection (WebSocket, a stream over
//! HTTP/1.1) or one stream of an HTTP/2 connection. Both hold a [`Subscriber`] and an [`Outbox`];
//! delivery does not know the difference, only the flush does. State is plain data on purpose: a
//! later version hands live connections to a new process.

use super::floods::AddressKey;
use super::format::Format;
use super::outbox::Outbox;
use super::session::Session;
use super::wheel::TICK_MS;
use crate::driver::ConnId;
use crate::mesh::{Place, Since};
use proto::position::Position;
use proto::reason::CloseReason;
use proto::tls::TlsSession;
use std::num::NonZeroU32;

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

    /// As a number.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The endpoint of a number, which may name none.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The endpoint at a place, which may be stale.
    pub fn of(at: Place) -> Self {
        // A stream's token holds its index in the low half.
        if at.stream == 0 { Self::connection(at.conn.slot) } else { Self::stream(at.stream as u32) }
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

/// The subscriptions of one endpoint. 24 bytes with one channel, which nearly all have.
#[derive(Debug)]
pub struct Subscriber {
    keys: Keys,
    /// How events are written.
    pub format: Format,
    /// It is sent the cursor over all channels with its events (SSE with several channels).
    pub has_cursor: bool,
}

#[derive(Debug)]
enum Keys {
    None,
    One(SubscriptionKey),
    Several(Box<Several>),
    Changing(Box<Changing>),
}

/// Subscriptions that come and go while the connection lives. Each has a number that is not given
/// again before all others were: an answer to a subscription that has gone finds nobody.
#[derive(Debug, Default)]
struct Changing {
    numbers: Vec<u16>,
    /// In step with `numbers`.
    keys: Vec<SubscriptionKey>,
    next: u16,
}

impl Changing {
    fn place(&self, number: u16) -> Option<usize> {
        self.numbers.iter().position(|own| *own == number)
    }
}

/// What an endpoint with several channels has more.
#[derive(Debug)]
struct Several {
    /// In the order of the request.
    keys: Vec<SubscriptionKey>,
    cursor: Option<CursorState>,
}

/// What the cursor of an event stream with several channels says.
#[derive(Debug)]
pub struct CursorState {
    /// FNV of the channel list.
    pub channels_hash: u32,
    /// Where the client stands in each channel: at first where it asked to start.
    pub since: Box<[Since]>,
}

impl Subscriber {
    /// Without a subscription yet.
    pub fn new(format: Format, several: bool, cursor: Option<CursorState>) -> Self {
        let has_cursor = cursor.is_some();
        let keys = if several {
            Keys::Several(Box::new(Several { keys: Vec::new(), cursor }))
        } else {
            Keys::None
        };
        Self { keys, format, has_cursor }
    }

    /// For subscriptions that come and go one by one, with [`Self::claim`] and [`Self::remove`].
    pub fn changing(format: Format) -> Self {
        Self { keys: Keys::Changing(Box::default()), format, has_cursor: false }
    }

    /// The number of the subscription that is pushed next. Of at most 65,535, which a connection
    /// cannot have, one is always free.
    pub fn claim(&mut self) -> u16 {
        match &mut self.keys {
            Keys::Changing(changing) => {
                while changing.numbers.contains(&changing.next) {
                    changing.next = changing.next.wrapping_add(1);
                }
                changing.next
            }
            Keys::None | Keys::One(_) => 0,
            Keys::Several(several) => several.keys.len() as u16,
        }
    }

    /// Takes the subscription of a number away.
    pub fn remove(&mut self, number: u16) -> Option<SubscriptionKey> {
        let Keys::Changing(changing) = &mut self.keys else { return None };
        let at = changing.place(number)?;
        changing.numbers.swap_remove(at);
        Some(changing.keys.swap_remove(at))
    }

    /// There may be several channels: messages from the client have to say which they are for.
    pub fn is_of_several(&self) -> bool {
        matches!(self.keys, Keys::Several(_) | Keys::Changing(_))
    }

    /// Adds the next subscription of the request.
    pub fn push(&mut self, key: SubscriptionKey) {
        match &mut self.keys {
            Keys::None => self.keys = Keys::One(key),
            Keys::One(_) => panic!("it was made for one channel"),
            Keys::Several(several) => several.keys.push(key),
            Keys::Changing(changing) => {
                changing.numbers.push(changing.next);
                changing.keys.push(key);
                changing.next = changing.next.wrapping_add(1);
            }
        }
    }

    /// Takes the last one away.
    pub fn pop(&mut self) -> Option<SubscriptionKey> {
        match &mut self.keys {
            Keys::None => None,
            Keys::One(key) => {
                let key = *key;
                self.keys = Keys::None;
                Some(key)
            }
            Keys::Several(several) => several.keys.pop(),
            Keys::Changing(changing) => {
                changing.numbers.pop();
                changing.keys.pop()
            }
        }
    }

    /// All of them, in the order of the request.
    #[inline]
    pub fn keys(&self) -> &[SubscriptionKey] {
        match &self.keys {
            Keys::None => &[],
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Several(several) => &several.keys,
            Keys::Changing(changing) => &changing.keys,
        }
    }

    /// One of them, by its index in the request, or its number.
    pub fn key_mut(&mut self, index: u16) -> Option<&mut SubscriptionKey> {
        match &mut self.keys {
            Keys::None => None,
            Keys::One(key) => (index == 0).then_some(key),
            Keys::Several(several) => several.keys.get_mut(usize::from(index)),
            Keys::Changing(changing) => {
                let at = changing.place(index)?;
                changing.keys.get_mut(at)
            }
        }
    }

    /// What its cursor says, if it has one.
    pub fn cursor(&self) -> Option<&CursorState> {
        match &self.keys {
            Keys::Several(several) => several.cursor.as_ref(),
            Keys::None | Keys::One(_) | Keys::Changing(_) => None,
        }
    }

    /// What it is sent next follows this position of a local channel.
    pub fn stand(&mut self, channel: u32, at: Position) {
        let Keys::Several(several) = &mut self.keys else { return };
        let index = several.keys.iter().position(|key| key.channel == channel);
        if let (Some(index), Some(cursor)) = (index, &mut several.cursor)
            && let Some(since) = cursor.since.get_mut(index)
        {
            *since = Since::After(at);
        }
    }

    /// Heap beyond its own bytes, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        match &self.keys {
            Keys::None | Keys::One(_) => 0,
            Keys::Several(several) => {
                size_of::<Several>()
                    + several.keys.capacity() * size_of::<SubscriptionKey>()
                    + several.cursor.as_ref().map_or(0, |cursor| cursor.since.len())
                        * size_of::<Since>()
            }
            Keys::Changing(changing) => {
                size_of::<Changing>()
                    + changing.numbers.capacity() * size_of::<u16>()
                    + changing.keys.capacity() * size_of::<SubscriptionKey>()
            }
        }
    }
}

/// A moment, in ticks of the timer wheel: half the size of milliseconds, and precise enough for
/// what is counted in seconds. Rounded up, so that what counts from it is never early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(NonZeroU32);

impl Stamp {
    /// The moment of so many milliseconds.
    #[inline]
    pub fn at(ms: u64) -> Self {
        // One more than the tick, so that an optional stamp costs nothing; saturates in 8.7 years.
        let tick = u32::try_from(ms.div_ceil(TICK_MS) + 1).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(tick).unwrap_or(NonZeroU32::MAX))
    }

    /// In milliseconds, at most one tick later than what it was made from.
    #[inline]
    pub fn ms(self) -> u64 {
        u64::from(self.0.get() - 1) * TICK_MS
    }
}

/// A socket of the shard. Two cache lines; everything that an idle one does not need is behind a
/// pointer that is empty then.
#[derive(Debug)]
#[repr(align(64))]
pub struct Connection {
    /// The driver's name for it.
    pub id: ConnId,
    /// Whose clients' rate it counts for.
    pub address: AddressKey,
    /// Its outgoing side.
    pub outbox: Outbox,
    /// What is spoken on it.
    pub session: Session,
    /// Encryption, if the listener has it.
    pub tls: Option<Box<Tls>>,
    /// Subscriptions of a WebSocket or SSE connection.
    pub subscriber: Option<Subscriber>,
    /// Bytes given to the socket so far.
    pub sent_bytes: u64,
    /// When bytes last came in.
    pub heard: Stamp,
    /// When something was last sent.
    pub said: Stamp,
    /// When it was accepted.
    pub accepted: Stamp,
    /// Events that the `drop_oldest` policy took from it.
    pub dropped_events: u32,
    /// Unfinished input, as charged to the shard's pool.
    pub partial_bytes: u32,
    /// Why it ends, once that is decided.
    pub closing: Option<CloseReason>,
    /// Phases of the end, see `closing`.
    pub end: End,
    /// The peer sends no more.
    pub peer_done: bool,
    /// Receiving is stopped by back-pressure.
    pub receive_paused: bool,
    /// The receive side is in multishot mode.
    pub chatty: bool,
}

const _: () = assert!(size_of::<Option<Connection>>() <= 128, "a connection is two cache lines");

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

/// Connections of a chunk of the table. The table grows by whole chunks, so that it never moves a
/// connection and never holds more than one chunk of room that nobody uses.
const CHUNK: usize = 64;

/// The shard's sockets, by slot. The slot numbers are the driver's, dense from 0.
#[derive(Debug, Default)]
pub struct Connections {
    chunks: Vec<Box<[Option<Connection>; CHUNK]>>,
    live: usize,
}

impl Connections {
    /// Adds a connection under the slot the driver gave it.
    pub fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot as usize;
        while self.chunks.len() * CHUNK <= slot {
            self.chunks.push(Box::new([const { None }; CHUNK]));
        }
        let entry = &mut self.chunks[slot / CHUNK][slot % CHUNK];
        assert!(entry.is_none(), "driver reused a slot that is not closed");
        *entry = Some(connection);
        self.live += 1;
    }

    /// The connection in a slot.
    #[inline]
    pub fn slot(&mut self, slot: u32) -> Option<&mut Connection> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?[slot % CHUNK].as_mut()
    }

    /// The connection of an id, if the id is not stale.
    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slot(id.slot).filter(|connection| connection.id == id)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.get(id)?;
        self.live -= 1;
        let slot = id.slot as usize;
        self.chunks.get_mut(slot / CHUNK)?[slot % CHUNK].take()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// Slots there is room for; slots are dense from 0.
    pub fn slots(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Bytes of the table, without what its connections point to.
    pub fn memory_bytes(&self) -> usize {
        self.chunks.len() * size_of::<[Option<Connection>; CHUNK]>()
            + self.chunks.capacity() * size_of::<usize>()
    }
}

/// What one idle subscribed WebSocket costs here, against what the budget plans with: the slot, its
/// place in the channel's list (which doubles when it grows) and its timer.
pub const IDLE_WEB_SOCKET_BYTES: usize =
    size_of::<Option<Connection>>() + 2 * size_of::<super::channels::Entry>() + 16;

const _: () = assert!(
    IDLE_WEB_SOCKET_BYTES as u64 <= crate::config::budget::CONNECTION_BYTES / 2,
    "an idle connection costs more than half of what the budget plans per connection"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_never_earlier_than_what_it_stands_for_and_at_most_a_tick_later() {
        for ms in [0, 1, TICK_MS - 1, TICK_MS, TICK_MS + 1, 86_400_000, 1 << 37] {
            let stamp = Stamp::at(ms).ms();
            assert!(stamp >= ms && stamp < ms + TICK_MS, "{ms} became {stamp}");
        }
        // Far beyond any uptime it stands still instead of starting again.
        assert!(Stamp::at(u64::MAX) >= Stamp::at(1 << 37));
    }

    #[test]
    fn the_number_of_a_subscription_that_went_is_not_given_again_at_once() {
        let key = |channel| SubscriptionKey { channel, at: 0 };
        let mut subscriber = Subscriber::changing(Format::web_socket(true));
        let claim = |subscriber: &mut Subscriber, channel| {
            let number = subscriber.claim();
            subscriber.push(key(channel));
            number
        };
        let (first, stays) = (claim(&mut subscriber, 1), claim(&mut subscriber, 2));
        assert_eq!(subscriber.remove(first).map(|key| key.channel), Some(1));
        assert!(subscriber.remove(first).is_none() && subscriber.key_mut(first).is_none());
        for channel in 3..70_000 {
            let number = claim(&mut subscriber, channel);
            assert!(number != stays, "a live number was given again");
            assert!(number != first || channel > 60_000, "given again after {channel}");
            assert_eq!(subscriber.key_mut(stays).unwrap().channel, 2);
            assert_eq!(subscriber.remove(number).unwrap().channel, channel);
        }
        assert_eq!(subscriber.keys().len(), 1);
    }

    #[test]
    fn an_endpoint_gives_its_subscriptions_back_one_by_one_whatever_their_number() {
        let key = |channel| SubscriptionKey { channel, at: channel * 10 };
        for channels in [1_u32, 5] {
            let since = vec![Since::Now; channels as usize].into_boxed_slice();
            let start = (channels > 1).then_some(CursorState { channels_hash: 7, since });
            let mut subscriber =
                Subscriber::new(Format::sse(false, false, true), channels > 1, start);
            (0..channels).for_each(|channel| subscriber.push(key(channel)));
            assert_eq!(subscriber.keys().len(), channels as usize);
            assert!(subscriber.key_mut(channels as u16).is_none());
            subscriber.key_mut(0).unwrap().at = 99;
            let mut left: Vec<u32> = Vec::new();
            while let Some(key) = subscriber.pop() {
                left.push(key.at);
            }
            assert_eq!(left.last(), Some(&99));
            assert_eq!((left.len(), subscriber.keys().len()), (channels as usize, 0));
        }
    }
}
