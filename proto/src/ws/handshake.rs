//! The opening handshake (RFC 6455 section 4), both sides.

use super::deflate;
use crate::http1::{self, Body, FieldError, Request, Response, tokens};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tungstenite::handshake::derive_accept_key;

/// Why an upgrade was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Any method but GET.
    #[error("a WebSocket handshake must be a GET request")]
    Method,
    /// `Upgrade` does not list `websocket`.
    #[error("this resource is a WebSocket; send `Upgrade: websocket` and `Connection: Upgrade`")]
    NotUpgrade,
    /// `Connection` does not list `Upgrade`.
    #[error("`Connection` does not list `Upgrade`; a proxy may have removed it")]
    Connection,
    /// HTTP/1.0.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    Http10,
    /// A version other than 13, or none.
    #[error("`Sec-WebSocket-Version` must be 13")]
    Version,
    /// Not exactly one `Sec-WebSocket-Key` of 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` must be given once and be 16 bytes in base64")]
    Key,
    /// A body: its bytes would be taken for frames.
    #[error("a WebSocket handshake must not have a body")]
    Body,
    /// `Sec-WebSocket-Protocol` is not a list of distinct tokens.
    #[error("`Sec-WebSocket-Protocol` is not a list of names")]
    Protocol,
    /// `Sec-WebSocket-Extensions` is not a list of extensions.
    #[error("`Sec-WebSocket-Extensions` is not a list of extensions with parameters")]
    Extensions,
}

impl HandshakeError {
    /// The status of the answer. Its text is the `Display` form.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotUpgrade | Self::Version => 426,
            Self::Connection
            | Self::Http10
            | Self::Key
            | Self::Body
            | Self::Protocol
            | Self::Extensions => 400,
        }
    }

    /// The fields that the answer must have beside its status.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("allow", "GET")],
            //= rfc9110#15.5.22
            // 426 names the protocol in Upgrade.
            Self::NotUpgrade => &[("upgrade", "websocket")],
            //= rfc6455#4.4
            // A version that is not understood is answered with those that are.
            Self::Version => &[("sec-websocket-version", "13"), ("upgrade", "websocket")],
            _ => &[],
        }
    }
}

/// A valid handshake, to be answered with [`Accept::write_response`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The value of `Sec-WebSocket-Accept`.
    pub key: String,
}

/// Checks a client's handshake. Origin and permissions are the caller's.
pub fn validate(request: &Request) -> Result<Accept, HandshakeError> {
    let fields = request.fields();
    //= rfc6455#4.2.1
    // GET, HTTP/1.1, Upgrade and Connection tokens, one key of 16 bytes, version 13.
    if request.method() != "GET" {
        return Err(HandshakeError::Method);
    }
    if request.version_minor == 0 {
        return Err(HandshakeError::Http10);
    }
    if !fields.has_token("upgrade", "websocket") {
        return Err(HandshakeError::NotUpgrade);
    }
    if !fields.has_token("connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    if !matches!(request.body, Body::None | Body::Length(0)) {
        return Err(HandshakeError::Body);
    }
    let mut versions = fields.all("sec-websocket-version");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Err(HandshakeError::Version);
    }
    let mut keys = fields.all("sec-websocket-key");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(HandshakeError::Key) };
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(HandshakeError::Key);
    }
    if !offered_protocols(request).all(|name| name.iter().all(|b| http1::is_tchar(*b))) {
        return Err(HandshakeError::Protocol);
    }
    //= rfc6455#9.1
    // A list that cannot be read fails the handshake; extensions nobody knows do not.
    if !fields.all("sec-websocket-extensions").all(deflate::is_extension_list) {
        return Err(HandshakeError::Extensions);
    }
    Ok(Accept { key: derive_accept_key(key) })
}

/// The first of `supported` that the client offers: what [`Accept::write_response`] echoes.
pub fn choose_protocol<'a>(request: &Request, supported: &[&'a str]) -> Option<&'a str> {
    supported
        .iter()
        .copied()
        .find(|name| offered_protocols(request).any(|offered| offered == name.as_bytes()))
}

fn offered_protocols(request: &Request) -> impl Iterator<Item = &[u8]> {
    request.fields().all("sec-websocket-protocol").flat_map(tokens)
}

impl Accept {
    /// Appends the 101. Frames may follow it at once. `protocol` is one that the client offered
    /// ([`choose_protocol`]); a client fails the connection over any other.
    pub fn write_response(
        &self,
        out: &mut Vec<u8>,
        protocol: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<(), FieldError> {
        let mut all = vec![("upgrade", "websocket"), ("sec-websocket-accept", self.key.as_str())];
        all.extend(protocol.map(|name| ("sec-websocket-protocol", name)));
        all.extend_from_slice(headers);
        let start = out.len();
        http1::write_status_line(out, 101);
        out.extend_from_slice(b"connection: Upgrade\r\n");
        for (name, value) in all {
            if let Err(error) = http1::write_field(out, name, value) {
                out.truncate(start);
                return Err(error);
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Appends a client's handshake. `nonce` is 16 random bytes; the returned key checks the answer.
pub fn write_request(
    out: &mut Vec<u8>,
    host: &str,
    target: &str,
    nonce: [u8; 16],
    headers: &[(&str, &str)],
) -> Result<ClientKey, FieldError> {
    let key = STANDARD.encode(nonce);
    let start = out.len();
    if !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(FieldError::Value);
    }
    out.extend_from_slice(format!("GET {target} HTTP/1.1\r\n").as_bytes());
    let own = [
        ("host", host),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", &key),
    ];
    for (name, value) in own.iter().chain(headers) {
        if let Err(error) = http1::write_field(out, name, value) {
            out.truncate(start);
            return Err(error);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(ClientKey { accept: derive_accept_key(key.as_bytes()) })
}

/// What the client expects back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    accept: String,
}

impl ClientKey {
    /// Did the server accept the handshake?
    pub fn is_accepted(&self, response: &Response) -> bool {
        //= rfc6455#4.1
        // 101, the two tokens, and the key that only a WebSocket server computes.
        response.status == 101
            && response.fields.has_token("upgrade", "websocket")
            && response.fields.has_token("connection", "upgrade")
            && response.fields.get("sec-websocket-accept") == Some(self.accept.as_bytes())
    }
}
