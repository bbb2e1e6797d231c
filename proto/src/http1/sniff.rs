//! Tells HTTP/2 with prior knowledge from HTTP/1 by the first bytes.
//!
//! Bytes that match the preface need no buffer: how many matched says what they were.

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// Every byte so far could start the preface.
    NeedMore,
    /// Not the preface: give the bytes to the HTTP/1 parser, which says what is wrong if so.
    Http1,
    /// The whole preface.
    Http2,
}

/// Looks at the first bytes of a connection, all of them.
pub fn sniff(bytes: &[u8]) -> Sniff {
    Sniffer::default().feed(bytes)
}

/// [`sniff`] over any split of the bytes, in one byte of state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sniffer {
    matched: u8,
}

impl Sniffer {
    /// Looks at the next bytes without consuming them. Once the answer is not `NeedMore`, the
    /// protocol must be given [`Self::held_back`] first and then these bytes, from their start.
    pub fn feed(&mut self, bytes: &[u8]) -> Sniff {
        let wanted = HTTP2_PREFACE.get(usize::from(self.matched)..).unwrap_or_default();
        let compared = wanted.len().min(bytes.len());
        if wanted.get(..compared) != bytes.get(..compared) {
            Sniff::Http1
        } else if compared == wanted.len() {
            Sniff::Http2
        } else {
            self.matched += u8::try_from(compared).unwrap_or_default();
            Sniff::NeedMore
        }
    }

    /// The bytes of the calls that answered `NeedMore`.
    pub fn held_back(self) -> &'static [u8] {
        HTTP2_PREFACE.get(..usize::from(self.matched)).unwrap_or_default()
    }
}
