//! Centrifugo's client protocol: commands, replies and pushes, in JSON and in Protobuf.
//!
//! A codec and nothing more: bytes to messages and back, bounded by [`Limits`], without state
//! between two frames. [`Commands`] reads what a client sent; [`write_reply`] and [`write_push`]
//! append what it gets. Who plays the client has [`write_command`] and [`Replies`].
//!
//! What is read borrows from the frame. Nothing read allocates more than a small multiple of the
//! frame's length, and of maps, lists and filters no more than [`Limits`] says. Unknown fields are
//! skipped in both encodings; what happens to fields given twice says `value`. Message definitions
//! and field numbers are those of centrifugal/protocol `definitions/client.proto`, version 2 of the
//! protocol.
//!
//! Deliberately absent: sessions, order of commands, permissions, deltas, timers; the parts of the
//! protocol that are named in `request`; and the one-directional endpoints, whose pushes stand
//! without a reply around them.
//! Tested in `tests`: the whole session of the protocol's description, every cut and bound, both
//! encodings against each other and against `prost` and `serde_json`; fuzzed by `tests/fuzz`
//! `centrifuge_json` and `centrifuge_protobuf`.

mod codes;
mod data;
mod decimal;
mod extension;
mod fault;
mod filter;
mod frame;
mod json;
mod macros;
mod push;
mod reply;
mod request;
mod tags;
mod value;
mod wire;

#[cfg(test)]
mod tests;

pub use codes::{DisconnectCode, ErrorCode, UnsubscribeCode, is_terminal};
pub use data::Data;
pub use decimal::Decimal;
pub use extension::{
    ClientMessage, ExtensionError, Level, Notice, NoticeKind, RPC_SNAPSHOT, SnapshotRequest,
    SubscribeOptions, Visibility,
};
pub use fault::{DecodeError, Fault, Outcome};
pub use filter::{Compare, FilterError, FilterNode, FilterTest};
pub use frame::{
    Commands, Replies, read_author, read_emulation, write_author, write_command, write_publication,
    write_push, write_reply,
};
pub use push::{
    ClientInfo, Disconnect, Join, Leave, MessagePush, Publication, Push, PushBody, Refresh,
    Subscribe, Unsubscribe,
};
pub use reply::{
    ConnectResult, ErrorReply, HistoryResult, PingResult, PresenceResult, PresenceStatsResult,
    PublishResult, RefreshResult, Reply, ReplyBody, RpcResult, SubRefreshResult, SubscribeResult,
    UnsubscribeResult,
};
pub use request::{
    Command, ConnectRequest, EmulationRequest, HistoryRequest, PingRequest, PresenceRequest,
    PresenceStatsRequest, PublishRequest, RefreshRequest, Request, RpcRequest, SendRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
};
pub use tags::tags;

use value::Budget;

/// How messages are written. A connection keeps to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Objects with line breaks between them; text frames.
    Json,
    /// Messages behind their lengths; binary frames.
    Protobuf,
}

impl Encoding {
    /// The WebSocket subprotocol that selects it. No subprotocol at all means JSON: centrifuge-js
    /// sends none for it.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "centrifuge-json",
            Self::Protobuf => "centrifuge-protobuf",
        }
    }

    /// Reads the name of a subprotocol.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        [Self::Json, Self::Protobuf].into_iter().find(|own| own.subprotocol() == name)
    }

    /// What stands between two messages of one frame.
    pub const fn separator(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
            Self::Protobuf => b"",
        }
    }

    /// The server's ping, the empty reply; as a command it is the client's pong.
    pub const fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => b"{}",
            Self::Protobuf => b"\0",
        }
    }
}

/// What one frame may hold. Its bytes are bounded by whoever received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Commands in a frame.
    pub commands_max: usize,
    /// Entries of maps and items of lists in one command, all together.
    pub entries_max: usize,
    /// Names, versions, epochs and a filter's strings, in bytes each.
    pub text_bytes_max: usize,
    /// Tokens and the values of headers, in bytes each.
    pub token_bytes_max: usize,
    /// Nodes of all tags filters in one command.
    pub filter_nodes_max: usize,
    /// How deep a tags filter may nest.
    pub filter_depth_max: usize,
}

impl Limits {
    /// Generous for every SDK: centrifuge-js sends `connect` and all of its subscribes in one
    /// frame, a token with many claims has a few kilobytes, a filter a handful of nodes.
    pub const DEFAULT: Self = Self {
        commands_max: 1024,
        entries_max: 512,
        text_bytes_max: 1024,
        token_bytes_max: 16 * 1024,
        filter_nodes_max: 128,
        filter_depth_max: 16,
    };

    fn budget(&self) -> Budget {
        Budget {
            entries_left: self.entries_max,
            filter_nodes_left: self.filter_nodes_max,
            filter_depth_max: self.filter_depth_max,
            text_bytes_max: self.text_bytes_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
