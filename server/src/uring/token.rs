//! What a completion is about: slot, generation and operation in the 64 bits of `user_data`.
//!
//! Never a pointer: a stale or forged completion is a failed lookup and a counter. Pure.

use crate::driver::{ConnId, GENERATION_MASK};

/// The operations whose completions a driver tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Multishot accept; the slot is the listener's index.
    Accept = 1,
    /// Multishot poll for readable.
    Poll = 2,
    /// One-shot receive.
    Receive = 3,
    /// Multishot receive.
    ReceiveMulti = 4,
    /// A `send_now` that fell short.
    SendNow = 5,
    /// A `send_armed`, or a piece of it.
    SendArmed = 6,
    /// A cancel; its own result says nothing that the cancelled operation's does not.
    Cancel = 7,
    /// Multishot poll of the waker's eventfd.
    Wake = 8,
}

const OPS: [Op; 8] = [
    Op::Accept,
    Op::Poll,
    Op::Receive,
    Op::ReceiveMulti,
    Op::SendNow,
    Op::SendArmed,
    Op::Cancel,
    Op::Wake,
];

/// slot (32 bits) | generation (24) | operation (8).
pub(super) fn pack(id: ConnId, op: Op) -> u64 {
    debug_assert!(id.generation <= GENERATION_MASK);
    u64::from(id.slot) << 32 | u64::from(id.generation & GENERATION_MASK) << 8 | op as u64
}

/// `None`: no operation of ours.
pub(super) fn unpack(token: u64) -> Option<(ConnId, Op)> {
    let op = *OPS.get((token as u8).checked_sub(1)? as usize)?;
    let generation = (token >> 8) as u32 & GENERATION_MASK;
    Some((ConnId { slot: (token >> 32) as u32, generation }, op))
}

/// Whether the token is of a `send_now`, without unpacking the rest.
pub(super) fn is_send_now(token: u64) -> bool {
    token as u8 == Op::SendNow as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            slot: u32, generation in 0..=GENERATION_MASK, op in 0..OPS.len(),
        ) {
            let id = ConnId { slot, generation };
            let token = pack(id, OPS[op]);
            prop_assert_eq!(unpack(token), Some((id, OPS[op])));
            prop_assert_eq!(is_send_now(token), OPS[op] == Op::SendNow);
        }

        #[test]
        fn any_token_is_refused_or_survives_the_round_trip(token: u64) {
            match unpack(token) {
                Some((id, op)) => prop_assert_eq!(pack(id, op), token),
                None => prop_assert!(token as u8 == 0 || token as u8 > OPS.len() as u8),
            }
        }
    }
}
