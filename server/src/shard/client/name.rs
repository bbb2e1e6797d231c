//! The name of an emulated client's session: where it is, and the secret that opens it.
//!
//! Whoever knows the name may speak for the client, so 128 bits of it come from the system's
//! generator, and they are compared in constant time. Place and shard stand in it in the clear, so
//! that a command finds its session without a table, from whichever shard it came to; a slot that
//! was used again has another secret. Which node it is on the protocol says beside it.

use crate::mesh::ShardId;
use crate::shard::connection::EndpointId;
use std::fmt;
use std::str::FromStr;

/// Hexadecimal digits of the shard, of the endpoint and of the secret.
const DIGITS: [usize; 3] = [4, 8, 32];

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionName {
    /// Whose connections it is among.
    pub shard: ShardId,
    /// Where it is there.
    pub endpoint: EndpointId,
    /// Known to its client alone.
    pub secret: Secret,
}

/// 128 bits that nobody guesses.
#[derive(Clone, Copy, Default)]
pub struct Secret(pub u128);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // The whole difference is looked at, whatever its first bytes are.
        std::hint::black_box(self.0 ^ other.0) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionName({:?}, {:?})", self.shard, self.endpoint)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{:08x}{:032x}", self.shard.0, self.endpoint.bits(), self.secret.0)
    }
}

/// It is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAName;

impl FromStr for SessionName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let [shard, endpoint, secret] = DIGITS;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != shard + endpoint + secret || !text.bytes().all(is_digit) {
            return Err(NotAName);
        }
        let (shard, rest) = text.split_at(shard);
        let (endpoint, secret) = rest.split_at(endpoint);
        Ok(Self {
            shard: ShardId(u16::from_str_radix(shard, 16).map_err(|_| NotAName)?),
            endpoint: EndpointId::from_bits(
                u32::from_str_radix(endpoint, 16).map_err(|_| NotAName)?,
            ),
            secret: Secret(u128::from_str_radix(secret, 16).map_err(|_| NotAName)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_nothing_else_is_one() {
        for secret in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            for endpoint in [EndpointId::connection(7), EndpointId::stream(0xabc)] {
                let name = SessionName { shard: ShardId(63), endpoint, secret: Secret(secret) };
                let text = name.to_string();
                assert_eq!(text.parse(), Ok(name));
                for cut in 0..text.len() {
                    assert_eq!(text[..cut].parse::<SessionName>(), Err(NotAName));
                    assert_eq!(text[cut + 1..].parse::<SessionName>(), Err(NotAName));
                    let mut other = text.clone().into_bytes();
                    other[cut] = if other[cut] == b'0' { b'1' } else { b'0' };
                    let other = String::from_utf8(other).expect("ASCII");
                    assert_ne!(other.parse(), Ok(name), "digit {cut} says nothing");
                    for bad in [b'g', b'A', b'+', b' ', 0xc3] {
                        let mut other = text.clone().into_bytes();
                        other[cut] = bad;
                        let other = String::from_utf8_lossy(&other).into_owned();
                        assert_eq!(other.parse::<SessionName>(), Err(NotAName), "{other}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_secret_is_not_shown_in_a_log() {
        let name = SessionName {
            shard: ShardId(0),
            endpoint: EndpointId::connection(0),
            secret: Secret(0xdead_beef),
        };
        assert!(!format!("{name:?}").contains("dead"));
        assert_ne!(name.secret, Secret(0xdead_beee));
    }
}
