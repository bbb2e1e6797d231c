//! permessage-deflate (RFC 7692), the server's side: negotiation, inflation, compression.
//!
//! Both directions are without context takeover, always: what was agreed on is one bit and a
//! [`Window`], a connection holds no compressor and no inflater, and one compressed frame serves
//! every subscriber with the same window. [`Inflater`] and [`Deflater`] belong to whoever runs many
//! connections, one each; they hold their memory from the first use on.
//!
//! A received message is kept as it came until it is complete, bounded like any message, and then
//! expanded in steps of [`CHUNK_BYTES`], which end at the limit: what a message claims to expand to
//! costs nothing. So a fragmented message needs no inflater of its own either.
//!
//! Deliberately absent: context takeover, which would cost tens of kilobytes a connection and one
//! compression per subscriber; the client's side of the negotiation; a window of 8 bits, which the
//! compressor cannot keep to (such an offer is declined).
//! Tested: `tests.rs` and the split tests of the decoder; fuzzed by `tests/fuzz` `ws`; other
//! people's clients in the integration tests.

mod compress;
mod inflate;
mod negotiate;

#[cfg(test)]
mod tests;

pub use compress::Deflater;
pub use inflate::{CHUNK_BYTES, Inflater};
pub(super) use negotiate::is_extension_list;
pub use negotiate::{Agreement, negotiate};

/// How far back the server's compressor refers: what `server_max_window_bits` bounds. Few values,
/// because each one in use is one compression more per event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 32 KiB: the client sets no bound.
    Full,
    /// 4 KiB, which some clients ask for by default (12 bits).
    Medium,
    /// 512 bytes (9 bits).
    Small,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Medium, Self::Small];

    /// Base-two logarithm of its bytes.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Full => 15,
            Self::Medium => 12,
            Self::Small => 9,
        }
    }

    /// The largest that a client with this bound can take.
    fn within(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.bits() <= bits)
    }
}
