//! Channel names: the one place that says what a legal name is and which namespace it belongs to.
//!
//! A name is 1 to 255 printable ASCII bytes without space. `namespace:rest` belongs to `namespace`
//! if that one is configured; everything else belongs to [`DEFAULT_NAMESPACE`].

use std::fmt;

/// The namespace of names without a colon, or whose namespace is not configured.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The longest legal channel name, in bytes (design: names fit one length byte).
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// Why a channel name was refused. The text names the limit, so that it can be shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// The name has no byte at all.
    #[error("channel name is empty; use 1 to 255 printable ASCII characters")]
    Empty,
    /// The name has more than [`CHANNEL_NAME_BYTES_MAX`] bytes.
    #[error("channel name is longer than 255 bytes")]
    TooLong,
    /// A byte outside `!`..=`~`: a space, a control character or non-ASCII.
    #[error("channel name has a character outside printable ASCII (no space) at byte {0}")]
    IllegalByte(usize),
}

/// Checks a name. Returns it as `&str`, which is ASCII from here on.
pub fn validate(name: &[u8]) -> Result<&str, ChannelNameError> {
    if name.is_empty() {
        return Err(ChannelNameError::Empty);
    }
    if name.len() > CHANNEL_NAME_BYTES_MAX {
        return Err(ChannelNameError::TooLong);
    }
    if let Some(at) = name.iter().position(|b| !b.is_ascii_graphic()) {
        return Err(ChannelNameError::IllegalByte(at));
    }
    std::str::from_utf8(name).map_err(|e| ChannelNameError::IllegalByte(e.valid_up_to()))
}

/// The namespace part as written: what stands before the first colon, `None` without a colon.
/// Whether that namespace is configured is the caller's question.
pub fn namespace(name: &str) -> Option<&str> {
    name.split_once(':').map(|(namespace, _)| namespace)
}

/// A checked channel name, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(std::sync::Arc<str>);

impl ChannelName {
    /// Checks and copies a name.
    pub fn new(name: &str) -> Result<Self, ChannelNameError> {
        validate(name.as_bytes()).map(|name| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_of_bounded_length_is_a_name() {
        let check = |name: &[u8]| validate(name).err();
        assert_eq!(check(b"orders:eu"), None);
        assert_eq!(check(b"!~"), None);
        assert_eq!(check(b""), Some(ChannelNameError::Empty));
        assert_eq!(check(&[b'a'; 255]), None);
        assert_eq!(check(&[b'a'; 256]), Some(ChannelNameError::TooLong));
        assert_eq!(check(b"a b"), Some(ChannelNameError::IllegalByte(1)));
        assert_eq!(check(b"a\0"), Some(ChannelNameError::IllegalByte(1)));
        assert_eq!(check("é".as_bytes()), Some(ChannelNameError::IllegalByte(0)));
    }

    #[test]
    fn the_namespace_ends_at_the_first_colon() {
        assert_eq!(namespace("orders:eu:1"), Some("orders"));
        assert_eq!(namespace("orders"), None);
        assert_eq!(namespace(":x"), Some(""));
    }
}
