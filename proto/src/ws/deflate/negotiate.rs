//! The offers in `Sec-WebSocket-Extensions` and the answer.

use super::Window;
use crate::http1::{Request, is_tchar};

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// What the server's compressor keeps to.
    pub window: Window,
    /// The client bounded it: then the answer does, too.
    bounded: bool,
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub const fn response(self) -> &'static str {
        //= rfc7692#7.1.1
        // Either side may be kept from context takeover by the answer, whatever was offered.
        match (self.bounded, self.window) {
            (false, _) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            }
            (true, Window::Full) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=15"
            }
            (true, Window::Medium) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12"
            }
            (true, Window::Small) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=9"
            }
        }
    }
}

/// The first offer of the client that can be kept to, if there is one.
pub fn negotiate(request: &Request) -> Option<Agreement> {
    //= rfc7692#5.1
    // Offers stand in the order of preference; those that are not acceptable are declined.
    let fields = request.fields().all("sec-websocket-extensions");
    fields.flat_map(|field| split_list(field, b',')).find_map(accept)
}

/// One offer; `None` declines it.
fn accept(offer: &[u8]) -> Option<Agreement> {
    let mut parts = split_list(offer, b';');
    if !parts.next()?.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut agreement = Agreement { window: Window::Full, bounded: false };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = parse_parameter(part)?;
        let index = PARAMETERS.iter().position(|known| known.as_bytes() == name)?;
        //= rfc7692#7.1
        // Unknown parameters, repeated ones and invalid values decline the offer.
        let seen = seen.get_mut(index)?;
        if std::mem::replace(seen, true) {
            return None;
        }
        match (index, value) {
            (SERVER_BITS, Some(value)) => {
                agreement.window = Window::within(window_bits(&value)?)?;
                agreement.bounded = true;
            }
            //= rfc7692#7.1.2.2
            // A hint, with or without a value: whatever window the client uses is understood.
            (CLIENT_BITS, value) => {
                value.map_or(Some(15), |value| window_bits(&value))?;
            }
            (SERVER_TAKEOVER | CLIENT_TAKEOVER, None) => {}
            _ => return None,
        }
    }
    Some(agreement)
}

/// Parameters by index.
const PARAMETERS: [&str; 4] = [
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
];
const SERVER_TAKEOVER: usize = 0;
const CLIENT_TAKEOVER: usize = 1;
const SERVER_BITS: usize = 2;
const CLIENT_BITS: usize = 3;

/// 8 to 15, decimal without leading zeros (RFC 7692 section 7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// `name`, `name=token` or `name="quoted token"`; the value without quotes and backslashes.
fn parse_parameter(part: &[u8]) -> Option<(&[u8], Option<Vec<u8>>)> {
    let equals = part.iter().position(|byte| *byte == b'=');
    let Some(equals) = equals else {
        let name = part.trim_ascii();
        return is_token(name).then_some((name, None));
    };
    let name = part.get(..equals)?.trim_ascii();
    let value = part.get(equals + 1..)?.trim_ascii();
    let value = match value {
        [b'"', quoted @ .., b'"'] => unquote(quoted)?,
        plain => plain.to_vec(),
    };
    //= rfc6455#9.1
    // A quoted value must be a token once the quotes are gone.
    (is_token(name) && is_token(&value)).then_some((name, Some(value)))
}

fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = quoted.iter();
    let mut value = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => value.push(*bytes.next()?),
            b'"' => return None,
            byte => value.push(*byte),
        }
    }
    Some(value)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// Is the field a list of extensions with parameters? Which ones does not matter.
pub(in crate::ws) fn is_extension_list(field: &[u8]) -> bool {
    split_list(field, b',').filter(|member| !member.trim_ascii().is_empty()).all(|member| {
        let mut parts = split_list(member, b';');
        let named = parts.next().is_some_and(|name| is_token(name.trim_ascii()));
        named && parts.all(|part| parse_parameter(part).is_some())
    })
}

/// Splits at a separator that stands outside quotes.
fn split_list(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |byte| {
        if escaped {
            escaped = false;
        } else if quoted && *byte == b'\\' {
            escaped = true;
        } else if *byte == b'"' {
            quoted = !quoted;
        }
        !quoted && *byte == separator
    })
}
