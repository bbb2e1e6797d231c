//! Streams on HTTP/2 connections that carry events: each is an endpoint of its own.

use super::client::ClientSession;
use super::connection::Subscriber;
use super::outbox::Outbox;
use crate::driver::ConnId;
use crate::mesh::Place;
use proto::h2::StreamKey;

/// One event stream on an HTTP/2 connection.
#[derive(Debug)]
pub struct Stream {
    /// Its connection.
    pub conn: ConnId,
    /// Its name in the HTTP/2 session.
    pub key: StreamKey,
    /// Unique among the streams of this shard's life, never 0: a stale token finds nothing.
    pub serial: u32,
    /// Its outgoing side. The backlog here is what the session's windows did not take.
    pub outbox: Outbox,
    /// Its subscriptions.
    pub subscriber: Option<Subscriber>,
    /// The client protocol, if that is what it carries.
    pub client: Option<Box<ClientSession>>,
    /// When something was last sent, milliseconds.
    pub said_ms: u64,
    /// Commands that wait at its client, as charged to the shard's pool.
    pub partial_bytes: u32,
}

impl Stream {
    /// What names this stream in a subscription token: index and serial, never 0.
    pub fn token(&self, index: u32) -> u64 {
        u64::from(self.serial) << 32 | u64::from(index)
    }

    /// What names this stream beyond the turn.
    pub fn place(&self, index: u32) -> Place {
        Place { conn: self.conn, stream: self.token(index) }
    }
}

/// The streams of a shard, by index.
#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Box<Stream>>>,
    free: Vec<u32>,
    serial: u32,
}

impl Streams {
    /// Adds a stream.
    pub fn insert(&mut self, conn: ConnId, key: StreamKey, now_ms: u64) -> u32 {
        self.serial = self.serial.wrapping_add(1).max(1);
        let stream = Stream {
            conn,
            key,
            serial: self.serial,
            outbox: Outbox::default(),
            subscriber: None,
            client: None,
            said_ms: now_ms,
            partial_bytes: 0,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(Box::new(stream));
        index
    }

    /// The stream at an index.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Stream> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    /// The index of the stream that a token names, unless it is gone.
    pub fn find(&self, token: u64) -> Option<u32> {
        let index = token as u32;
        self.get(index).filter(|stream| stream.token(index) == token).map(|_| index)
    }

    /// The stream at an index, shared.
    pub fn get(&self, index: u32) -> Option<&Stream> {
        self.slots.get(index as usize)?.as_deref()
    }

    /// Forgets a stream.
    pub fn remove(&mut self, index: u32) -> Option<Box<Stream>> {
        let stream = self.slots.get_mut(index as usize)?.take();
        if stream.is_some() {
            self.free.push(index);
        }
        stream
    }

    /// Indices there is room for.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The indices of all of them.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        live.map(|(index, _)| index as u32)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().flatten().map(|stream| &**stream)
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let own = |stream: &Stream| {
            let client = stream.client.as_ref().map_or(0, |own| own.memory_bytes());
            let subscriber = stream.subscriber.as_ref().map_or(0, Subscriber::memory_bytes);
            size_of::<Stream>() + client + subscriber
        };
        self.slots.capacity() * size_of::<Option<Box<Stream>>>()
            + self.iter().map(own).sum::<usize>()
    }
}
