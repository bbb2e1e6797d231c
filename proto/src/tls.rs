//! TLS server session without I/O: ciphertext in, plaintext and ciphertext out.
//!
//! The only file that names rustls, because its unbuffered interface is gone from the next release
//! line and something else will stand here then.
//!
//! Invariants, each with a test:
//! - A session keeps ciphertext only while a record or a handshake message is incomplete, at most
//!   [`SPILL_BYTES_MAX`]; an idle session keeps none.
//! - An error is final, and its alert is in the output when the error is returned.
//! - Errors hold no key material and nothing of what the peer sent.
//!
//! TLS 1.2 and 1.3 with the `ring` provider, ALPN `h2` and `http/1.1`, stateless tickets whose keys
//! rotate every six hours and are shared by all shards that share a [`TlsConfig`].
//!
//! Deliberately absent: early data (a replayed publish is a duplicate), client certificates,
//! renegotiation, session caches (they would be shared state), deadlines (the caller's timers).
//! rustls reads the system's clock and random source itself. A session lives on one shard thread;
//! a [`TlsConfig`] is shared by all. Tested against rustls' own buffered client, and fuzzed
//! (`tests/fuzz`, target `tls`).

#[cfg(test)]
mod tests;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use std::sync::Arc;

/// Certificate, key and ticket keys; cheap to clone, and clones share the ticket keys.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
}

/// Why a certificate and key cannot be used, and what to do. Says nothing of the key's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsConfigError {
    /// No certificate in the PEM text.
    #[error(
        "no certificate found: the certificate file must hold PEM blocks 'BEGIN CERTIFICATE', \
         the server's own first, then its intermediates"
    )]
    NoCertificate,
    /// A certificate block is damaged.
    #[error("certificate {number} in the file is damaged ({what}): export it again as PEM")]
    BadCertificate {
        /// Counted from one.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No private key in the PEM text.
    #[error(
        "no private key found: the key file must hold one PEM block 'BEGIN PRIVATE KEY' (PKCS#8), \
         'BEGIN EC PRIVATE KEY' or 'BEGIN RSA PRIVATE KEY'"
    )]
    NoKey,
    /// The key is behind a pass phrase.
    #[error(
        "the private key is encrypted: write it without a pass phrase \
         ('openssl pkey -in key.pem -out plain.pem') and protect the file by its mode"
    )]
    EncryptedKey,
    /// The key block is damaged.
    #[error("the private key's PEM block is damaged: export it again")]
    BadKey,
    /// The key's algorithm or size.
    #[error(
        "the private key is of no supported kind: use ECDSA P-256 or P-384, Ed25519, or RSA of at least 2,048 bits"
    )]
    UnsupportedKey,
    /// They are not a pair.
    #[error(
        "the private key does not belong to the first certificate in the file: check that both were issued together and that the server's certificate comes first"
    )]
    KeyMismatch,
    /// The first certificate cannot be read as X.509.
    #[error("the first certificate in the file is not valid X.509: export it again")]
    InvalidCertificate,
    /// No random bytes at start.
    #[error("the system gave no random bytes for the session ticket keys: check getrandom(2)")]
    NoRandom,
}

/// Why a session failed. What the peer did, not what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// HTTP without TLS. A short HTTP/1.1 answer that says so is in the output.
    #[error("plain HTTP on a TLS port: use https:// or wss://")]
    PlaintextHttp,
    /// The first bytes are neither TLS nor HTTP.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// No common version, cipher suite or group.
    #[error("no common TLS version or cipher: the client must offer TLS 1.2 or 1.3")]
    Incompatible,
    /// ALPN was offered and names neither `h2` nor `http/1.1`.
    #[error("no common application protocol: the client must offer h2 or http/1.1")]
    NoCommonAlpn,
    /// The peer ended the session with an alert; 42 to 49 mean that it does not trust the
    /// certificate.
    #[error("the peer sent TLS alert {0} (42 to 49: it does not trust the certificate)")]
    PeerAlert(u8),
    /// A record does not authenticate.
    #[error("a TLS record is corrupt")]
    Corrupt,
    /// A record or handshake message over the limit.
    #[error("a TLS record or handshake message is too large")]
    TooLarge,
    /// Something else that TLS forbids.
    #[error("the peer broke the TLS protocol")]
    Protocol,
    /// Writing before the handshake is done, after `close_notify`, or after an error.
    #[error("the session cannot carry data now")]
    NotWritable,
}

/// The application protocol both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http11,
}

/// Where a session stands after a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsProgress {
    /// [`TlsSession::write`] may be called, and [`TlsSession::alpn`] is final.
    pub handshake_done: bool,
    /// The peer said that it sends nothing more. An end of the stream without it is truncation.
    pub peer_closed: bool,
}

/// Most ciphertext kept between feeds: one record of 16 KiB and its overhead, or a ClientHello far
/// above what clients send (two to four KiB), over however many records.
pub const SPILL_BYTES_MAX: usize = 32 << 10;
/// An idle session, counted by an allocator after a TLS 1.3 handshake.
pub const IDLE_BYTES: usize = 3_300;

impl TlsConfig {
    /// Reads a certificate chain and its private key from PEM text.
    pub fn from_pem(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsConfigError> {
        let certificates = certificates(cert_pem)?;
        let key = private_key(key_pem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsConfigError::UnsupportedKey)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| config_error(&error))?;
        server.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
        // Tickets are stateless and need no cache shared between threads.
        server.ticketer =
            rustls::crypto::ring::Ticketer::new().map_err(|_| TlsConfigError::NoRandom)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.max_early_data_size = 0;
        Ok(Self { server: Arc::new(server) })
    }
}

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP11: &[u8] = b"http/1.1";

fn certificates(pem_text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem_text) {
        let number = found.len() + 1;
        found.push(certificate.map_err(|error| TlsConfigError::BadCertificate {
            number,
            what: match error {
                pem::Error::MissingSectionEnd { .. } => "its END line is missing",
                pem::Error::IllegalSectionStart { .. } => "its BEGIN line is malformed",
                pem::Error::Base64Decode(_) => "its base64 is malformed",
                _ => "unreadable",
            },
        })?);
    }
    if found.is_empty() { Err(TlsConfigError::NoCertificate) } else { Ok(found) }
}

fn private_key(pem_text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let is_encrypted = memchr::memmem::find(pem_text, b"ENCRYPTED").is_some();
    PrivateKeyDer::from_pem_slice(pem_text).map_err(|error| match error {
        _ if is_encrypted => TlsConfigError::EncryptedKey,
        pem::Error::NoItemsFound => TlsConfigError::NoKey,
        // The error would quote lines of the file.
        _ => TlsConfigError::BadKey,
    })
}

fn config_error(error: &rustls::Error) -> TlsConfigError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsConfigError::KeyMismatch,
        rustls::Error::InvalidCertificate(_) => TlsConfigError::InvalidCertificate,
        _ => TlsConfigError::UnsupportedKey,
    }
}

/// One TLS connection, server side.
pub struct TlsSession {
    connection: Box<UnbufferedServerConnection>,
    /// Ciphertext that is not a whole record, or belongs to an incomplete handshake message.
    spill: Vec<u8>,
    peer_closed: bool,
    close_sent: bool,
    failed: Option<TlsError>,
    /// Nothing has been fed yet.
    is_new: bool,
    /// Nothing has been sent yet, so what is sent is not encrypted.
    is_silent: bool,
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSession")
            .field("progress", &self.progress())
            .field("spill_bytes", &self.spill.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl TlsSession {
    /// A session that waits for the client's first bytes.
    ///
    /// # Panics
    /// Never: rustls refuses only a bad fragment size, and we set none.
    pub fn new(config: &TlsConfig) -> Self {
        #[expect(clippy::expect_used, reason = "fails only for a bad max_fragment_size")]
        let connection = UnbufferedServerConnection::new(Arc::clone(&config.server))
            .expect("the default fragment size is valid");
        Self {
            connection: Box::new(connection),
            spill: Vec::new(),
            peer_closed: false,
            close_sent: false,
            failed: None,
            is_new: true,
            is_silent: true,
        }
    }

    /// Takes ciphertext, appends what it decrypts to `out_plain` and what must be sent (handshake,
    /// tickets, alerts) to `out_cipher`. After an error send `out_cipher` and close.
    pub fn feed(
        &mut self,
        ciphertext: &[u8],
        out_plain: &mut Vec<u8>,
        out_cipher: &mut Vec<u8>,
    ) -> Result<TlsProgress, TlsError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(first) = ciphertext.first().filter(|_| self.is_new) {
            self.is_new = false;
            // A TLS record begins with 20 to 23, an HTTP request with a capital letter.
            if first.is_ascii_uppercase() {
                out_cipher.extend_from_slice(PLAINTEXT_ANSWER);
                return self.fail(TlsError::PlaintextHttp);
            }
            if *first != CONTENT_HANDSHAKE {
                return self.fail_loudly(TlsError::NotTls, out_cipher);
            }
        }
        // Records are decrypted in place, so they must be in memory of ours.
        self.spill.extend_from_slice(ciphertext);
        let before = out_cipher.len();
        let result = self.advance(out_plain, out_cipher, |_, _| Ok(()));
        self.is_silent &= out_cipher.len() == before;
        match result {
            Err(error) => return self.fail_loudly(error, out_cipher),
            Ok(()) if self.spill.len() > SPILL_BYTES_MAX => {
                return self.fail_loudly(TlsError::TooLarge, out_cipher);
            }
            Ok(()) => {}
        }
        Ok(self.progress())
    }

    /// Encrypts `plain` and appends the records to `out_cipher`.
    pub fn write(&mut self, plain: &[u8], out_cipher: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.failed.is_some() || self.close_sent || self.connection.is_handshaking() {
            return Err(TlsError::NotWritable);
        }
        let mut written = false;
        let result = self.advance(&mut Vec::new(), out_cipher, |traffic, out| {
            written = true;
            let records = plain.len().div_ceil(RECORD_BYTES_MAX);
            let guess = plain.len() + records * RECORD_OVERHEAD_BYTES_MAX;
            append(out, guess, |room| match traffic.encrypt(plain, room) {
                Ok(n) => Ok(n),
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        });
        match result {
            Ok(()) if written => Ok(()),
            Ok(()) => Err(TlsError::NotWritable),
            Err(error) => self.fail(error).map(drop),
        }
    }

    /// Says that nothing more comes; appends the alert. Nothing is said before the handshake is
    /// done, where closing the socket says it all.
    pub fn close_notify(&mut self, out_cipher: &mut Vec<u8>) {
        if self.failed.is_some() || self.close_sent || self.connection.is_handshaking() {
            return;
        }
        self.close_sent = true;
        // A failure leaves nothing to say either.
        let _ = self.advance(&mut Vec::new(), out_cipher, |traffic, out| {
            append(out, 64, |room| match traffic.queue_close_notify(room) {
                Ok(n) => Ok(n),
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        });
    }

    /// What was agreed on; `None` before the handshake is done or when the client offered nothing.
    pub fn alpn(&self) -> Option<Alpn> {
        match self.connection.alpn_protocol() {
            Some(ALPN_H2) => Some(Alpn::H2),
            Some(ALPN_HTTP11) => Some(Alpn::Http11),
            _ => None,
        }
    }

    /// See [`TlsProgress`].
    pub fn progress(&self) -> TlsProgress {
        TlsProgress {
            handshake_done: !self.connection.is_handshaking(),
            peer_closed: self.peer_closed,
        }
    }

    /// What this session holds, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        IDLE_BYTES + self.spill.capacity()
    }

    fn fail(&mut self, error: TlsError) -> Result<TlsProgress, TlsError> {
        self.failed = Some(error);
        self.spill = Vec::new();
        Err(error)
    }

    /// Fails with an alert where rustls has not written one and it can still be read.
    fn fail_loudly(
        &mut self,
        error: TlsError,
        out_cipher: &mut Vec<u8>,
    ) -> Result<TlsProgress, TlsError> {
        if self.is_silent && !matches!(error, TlsError::PeerAlert(_)) {
            //= rfc8446#6.2
            // unexpected_message, record_overflow, decode_error.
            let code = match error {
                TlsError::NotTls => 10,
                TlsError::TooLarge => 22,
                _ => 50,
            };
            out_cipher.extend_from_slice(&[CONTENT_ALERT, 3, 3, 0, 2, ALERT_FATAL, code]);
        }
        self.fail(error)
    }

    /// Runs the connection until it needs more input. When it could carry data, `on_write` is
    /// called once.
    fn advance<W>(
        &mut self,
        out_plain: &mut Vec<u8>,
        out_cipher: &mut Vec<u8>,
        on_write: W,
    ) -> Result<(), TlsError>
    where
        W: FnOnce(&mut WriteTraffic<'_, ServerData>, &mut Vec<u8>) -> Result<(), TlsError>,
    {
        let mut on_write = Some(on_write);
        let mut taken = 0;
        let result = loop {
            let unread = self.spill.get_mut(taken..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(unread);
            let mut discard = discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        out_plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if let Err(error) = encode(&mut data, out_cipher) {
                        break Err(error);
                    }
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    taken += discard;
                    // What a write queues (a key update, say) it has also sent.
                    break match on_write.take() {
                        Some(on_write) => on_write(&mut traffic, out_cipher),
                        None => Ok(()),
                    };
                }
                Ok(_) => {
                    taken += discard;
                    break Ok(());
                }
                Err(error) => break Err(self.say_alert(&error, out_cipher)),
            }
            taken += discard;
        };
        self.forget(taken);
        result
    }

    /// Drops what was read; an empty spill keeps no memory.
    fn forget(&mut self, taken: usize) {
        if taken >= self.spill.len() {
            self.spill = Vec::new();
        } else {
            self.spill.drain(..taken);
        }
    }

    /// Writes the alert that rustls has queued for an error.
    fn say_alert(&mut self, error: &rustls::Error, out_cipher: &mut Vec<u8>) -> TlsError {
        // Only while something is queued: that comes out before rustls looks at its input, which
        // it must not do after an error. With the same input it panics because it has sent its
        // alert, with a shorter one because it remembers positions (0.23.46).
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
            if encode(&mut data, out_cipher).is_err() {
                break;
            }
        }
        session_error(error)
    }
}

type ServerData = rustls::server::ServerConnectionData;

/// What rustls puts into one record (`rfc8446#5.1`).
const RECORD_BYTES_MAX: usize = 16 << 10;
/// Head 5, explicit nonce 8 (TLS 1.2), tag 16, content type 1 (TLS 1.3).
const RECORD_OVERHEAD_BYTES_MAX: usize = 30;
const CONTENT_HANDSHAKE: u8 = 22;
const CONTENT_ALERT: u8 = 21;
const ALERT_FATAL: u8 = 2;
const PLAINTEXT_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\n\
    content-length: 46\r\n\
    connection: close\r\n\r\n\
    This port speaks TLS: use https:// or wss://.\n";

fn encode(data: &mut EncodeTlsData<'_, ServerData>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    append(out, 0, |room| match data.encode(room) {
        Ok(n) => Ok(n),
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    })
}

/// Appends what `write` puts into a slice, first of `guess` bytes, then of the size it asked for.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut size = guess;
    for _ in 0..2 {
        out.resize(start + size, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(Some(needed)) => size = needed.required_size,
            Err(None) => break,
        }
    }
    out.truncate(start);
    Err(TlsError::NotWritable)
}

fn session_error(error: &rustls::Error) -> TlsError {
    use rustls::{Error, InvalidMessage};
    match error {
        Error::PeerIncompatible(_) => TlsError::Incompatible,
        Error::NoApplicationProtocol => TlsError::NoCommonAlpn,
        Error::AlertReceived(alert) => TlsError::PeerAlert(u8::from(*alert)),
        Error::DecryptError => TlsError::Corrupt,
        Error::PeerSentOversizedRecord
        | Error::InvalidMessage(
            InvalidMessage::MessageTooLarge | InvalidMessage::HandshakePayloadTooLarge,
        ) => TlsError::TooLarge,
        _ => TlsError::Protocol,
    }
}
