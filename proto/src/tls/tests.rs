use super::*;
use rustls::client::{ClientConfig, ClientConnection};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion, version};
use std::io::{Read, Write};

struct Identity {
    cert_pem: String,
    key_pem: String,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    Identity { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
}

impl Identity {
    fn server(&self) -> TlsConfig {
        TlsConfig::from_pem(self.cert_pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }

    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(client)
    }
}

/// Our session and rustls' buffered client, joined by memory.
struct Pair {
    server: TlsSession,
    client: ClientConnection,
    /// Plaintext the server received.
    got: Vec<u8>,
    /// Bytes the server is fed at once.
    cut: usize,
}

impl Pair {
    fn new(server: &TlsConfig, client: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::clone(client), name).unwrap();
        Self { server: TlsSession::new(server), client, got: Vec::new(), cut: usize::MAX }
    }

    /// Moves bytes until nothing moves; what either side says of its peer's fault.
    fn run(&mut self) -> Result<(), TlsError> {
        loop {
            let up = self.client_output();
            if up.is_empty() {
                return Ok(());
            }
            let mut down = Vec::new();
            for part in up.chunks(self.cut) {
                let fed = self.server.feed(part, &mut self.got, &mut down);
                self.deliver(&down);
                down.clear();
                fed?;
            }
        }
    }

    fn client_output(&mut self) -> Vec<u8> {
        let mut up = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut up).unwrap();
        }
        up
    }

    fn deliver(&mut self, mut down: &[u8]) {
        while !down.is_empty() {
            self.client.read_tls(&mut down).unwrap();
            // A failure is seen by the server as an alert.
            let _ = self.client.process_new_packets();
        }
    }

    fn client_reads(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = self.client.reader().read(&mut chunk) {
            read.extend_from_slice(&chunk[..n]);
        }
        read
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[test]
fn every_version_and_protocol_is_agreed_on() {
    let identity = identity();
    let server = identity.server();
    let cases: [(_, &[&str], _, _); 5] = [
        (BOTH, &["h2", "http/1.1"], ProtocolVersion::TLSv1_3, Some(Alpn::H2)),
        (BOTH, &["http/1.1", "h2"], ProtocolVersion::TLSv1_3, Some(Alpn::H2)),
        (&[&version::TLS12], &["h2"], ProtocolVersion::TLSv1_2, Some(Alpn::H2)),
        (&[&version::TLS12], &["x", "http/1.1"], ProtocolVersion::TLSv1_2, Some(Alpn::Http11)),
        (BOTH, &[], ProtocolVersion::TLSv1_3, None),
    ];
    for (versions, offered, version, alpn) in cases {
        let mut pair = Pair::new(&server, &identity.client(versions, offered));
        assert_eq!(pair.server.alpn(), None);
        assert!(!pair.server.progress().handshake_done);
        pair.run().unwrap();
        assert!(pair.server.progress().handshake_done);
        assert!(!pair.client.is_handshaking());
        assert_eq!((pair.client.protocol_version(), pair.server.alpn()), (Some(version), alpn));
        check_echo(&mut pair, b"hello");
        assert_eq!(pair.server.memory_bytes(), IDLE_BYTES, "no ciphertext is kept");
    }
}

/// Sends `bytes` both ways.
fn check_echo(pair: &mut Pair, bytes: &[u8]) {
    pair.got.clear();
    for part in bytes.chunks(30_000) {
        pair.client.writer().write_all(part).unwrap();
        pair.run().unwrap();
    }
    assert!(pair.got == bytes);
    let mut back = Vec::new();
    let mut down = Vec::new();
    for part in bytes.chunks(100_000) {
        down.clear();
        pair.server.write(part, &mut down).unwrap();
        for packet in down.chunks(10_000) {
            pair.deliver(packet);
            back.extend(pair.client_reads());
        }
    }
    assert!(back == bytes);
}

#[test]
fn a_handshake_survives_every_cut() {
    let identity = identity();
    let server = identity.server();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let client = identity.client(versions, &["h2"]);
        for cut in [1, 2, 3, 4, 5, 6, 7, 11, 50, 100, 200, 500] {
            let mut pair = Pair::new(&server, &client);
            pair.cut = cut;
            pair.run().unwrap();
            assert!(pair.server.progress().handshake_done, "cut at {cut}");
            check_echo(&mut pair, &vec![3; 40_000]);
        }
        // The first flight cut once, anywhere.
        let first = Pair::new(&server, &client).client_output().len();
        for cut in 1..first {
            let mut pair = Pair::new(&server, &client);
            pair.cut = cut;
            pair.run().unwrap();
            assert!(pair.server.progress().handshake_done, "cut at {cut}");
        }
    }
}

#[test]
fn many_records_pass_both_ways() {
    let identity = identity();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let mut pair = Pair::new(&identity.server(), &identity.client(versions, &[]));
        pair.run().unwrap();
        let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        check_echo(&mut pair, &body);
        check_echo(&mut pair, b"");
        check_echo(&mut pair, b"x");
        // Ten records fed in one go.
        for _ in 0..10 {
            pair.client.writer().write_all(&[9; 5_000]).unwrap();
        }
        pair.got.clear();
        pair.run().unwrap();
        assert_eq!(pair.got, vec![9; 50_000]);
    }
}

#[test]
fn a_second_connection_resumes_without_a_certificate() {
    let identity = identity();
    let server = identity.server();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let client = identity.client(versions, &["h2"]);
        let kind = |server: &TlsConfig| {
            let mut pair = Pair::new(server, &client);
            pair.run().unwrap();
            check_echo(&mut pair, b"hello");
            assert_eq!(pair.server.alpn(), Some(Alpn::H2));
            pair.client.handshake_kind().unwrap()
        };
        assert_eq!(kind(&server), HandshakeKind::Full);
        assert_eq!(kind(&server.clone()), HandshakeKind::Resumed);
        // Another configuration has other ticket keys; the client is served all the same.
        assert_eq!(kind(&identity.server()), HandshakeKind::Full);
    }
}

#[test]
fn a_common_protocol_is_demanded_with_an_alert() {
    let identity = identity();
    let mut pair = Pair::new(&identity.server(), &identity.client(BOTH, &["spdy/3"]));
    assert_eq!(pair.run(), Err(TlsError::NoCommonAlpn));
    let error = pair.client.process_new_packets().unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn an_untrusted_certificate_is_reported_as_the_peers_alert() {
    let (ours, theirs) = (identity(), identity());
    let mut pair = Pair::new(&ours.server(), &theirs.client(BOTH, &["h2"]));
    assert!(matches!(pair.run(), Err(TlsError::PeerAlert(42..=51))));
    let mut out = Vec::new();
    assert_eq!(pair.server.write(b"x", &mut out), Err(TlsError::NotWritable));
    pair.server.close_notify(&mut out);
    assert!(out.is_empty());
}

#[test]
fn what_is_not_tls_is_recognised_and_answered() {
    // A record of type handshake whose content is not: an alert, and the error is final.
    let junk = [22, 3, 1, 0, 4, 99, 0, 0, 0];
    let too_large = [22, 3, 1, 0xff, 0xff];
    let cases: [(&[u8], TlsError, &[u8]); 7] = [
        (b"GET / HTTP/1.1\r\n", TlsError::PlaintextHttp, b"HTTP/1.1 400 "),
        (b"P", TlsError::PlaintextHttp, b"HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n", TlsError::PlaintextHttp, b"HTTP/1.1 400 "),
        (b"\0\0\0", TlsError::NotTls, &[21, 3, 3, 0, 2, 2, 10]),
        (b"\x80\x2e\x01\0\x02", TlsError::NotTls, &[21]),
        (&junk, TlsError::Protocol, &[21]),
        (&too_large, TlsError::TooLarge, &[21]),
    ];
    let config = identity().server();
    for (input, expected, answer) in cases {
        let mut session = TlsSession::new(&config);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        assert_eq!(session.feed(input, &mut plain, &mut out), Err(expected), "{input:?}");
        assert!(out.starts_with(answer), "{input:?}: {out:?}");
        assert!(plain.is_empty());
        let said = out.len();
        assert_eq!(session.feed(b"more", &mut plain, &mut out), Err(expected));
        assert_eq!(out.len(), said, "an error is said once");
    }
    let answer = String::from_utf8(PLAINTEXT_ANSWER.to_vec()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
}

#[test]
fn old_versions_are_refused_with_an_alert() {
    // A ClientHello of TLS 1.1 with one cipher suite and no extensions.
    let mut hello = vec![3, 2];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0, 0x2f, 1, 0]);
    let mut input = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    input.extend_from_slice(&hello);
    let mut session = TlsSession::new(&identity().server());
    let mut out = Vec::new();
    assert_eq!(session.feed(&input, &mut Vec::new(), &mut out), Err(TlsError::Incompatible));
    assert_eq!(out[0], 21);
}

#[test]
fn a_corrupt_record_ends_the_session_with_an_alert() {
    let identity = identity();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let mut pair = Pair::new(&identity.server(), &identity.client(versions, &[]));
        pair.run().unwrap();
        pair.client.writer().write_all(b"first").unwrap();
        pair.client.writer().write_all(b"second").unwrap();
        let mut up = pair.client_output();
        *up.last_mut().unwrap() ^= 1;
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        assert_eq!(pair.server.feed(&up, &mut plain, &mut out), Err(TlsError::Corrupt));
        assert_eq!(plain, b"first", "what was authentic is delivered");
        pair.deliver(&out);
        let error = pair.client.process_new_packets().unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
}

#[test]
fn garbage_after_the_handshake_began_is_final_and_kept_by_nobody() {
    let identity = identity();
    let client = identity.client(BOTH, &["h2"]);
    for at in [0, 1, 5, 6, 9, 40, 80, 120] {
        let mut pair = Pair::new(&identity.server(), &client);
        let mut up = pair.client_output();
        up[at] ^= 0xff;
        up.extend_from_slice(&[0xff; 100]);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let result = pair.server.feed(&up, &mut plain, &mut out);
        assert!(result.is_err(), "flipped at {at}");
        assert!(!out.is_empty(), "flipped at {at}");
        assert_eq!(pair.server.memory_bytes(), IDLE_BYTES);
    }
}

#[test]
fn an_endless_client_hello_is_bounded() {
    // One handshake message of 60 KiB in records of 64 bytes.
    let mut message = vec![1, 0, 0xf0, 0];
    message.resize(0xf000, 0);
    let mut session = TlsSession::new(&identity().server());
    let mut top = 0;
    let mut result = Ok(());
    for part in message.chunks(64) {
        let mut record = vec![22, 3, 1, 0, part.len() as u8];
        record.extend_from_slice(part);
        match session.feed(&record, &mut Vec::new(), &mut Vec::new()) {
            Ok(_) => top = top.max(session.memory_bytes()),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    assert_eq!(result, Err(TlsError::TooLarge));
    assert!(top <= IDLE_BYTES + 2 * SPILL_BYTES_MAX, "{top}");
}

#[test]
fn closing_is_told_from_truncation() {
    let identity = identity();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let mut pair = Pair::new(&identity.server(), &identity.client(versions, &[]));
        pair.run().unwrap();
        pair.client.writer().write_all(b"last words").unwrap();
        pair.run().unwrap();
        assert!(!pair.server.progress().peer_closed, "an end of the stream here is truncation");
        pair.client.send_close_notify();
        pair.run().unwrap();
        assert!(pair.server.progress().peer_closed);
        assert_eq!(pair.got, b"last words");
        // The other half goes on until we close it.
        let mut down = Vec::new();
        pair.server.write(b"answer", &mut down).unwrap();
        pair.server.close_notify(&mut down);
        let said = down.len();
        pair.server.close_notify(&mut down);
        assert_eq!(down.len(), said, "said once");
        assert_eq!(pair.server.write(b"more", &mut down), Err(TlsError::NotWritable));
        pair.deliver(&down);
        assert_eq!(pair.client_reads(), b"answer");
        let mut end = [0; 1];
        assert_eq!(pair.client.reader().read(&mut end).unwrap(), 0, "a clean end");
    }
}

#[test]
fn nothing_is_written_before_the_handshake() {
    let mut session = TlsSession::new(&identity().server());
    let mut out = Vec::new();
    assert_eq!(session.write(b"x", &mut out), Err(TlsError::NotWritable));
    session.close_notify(&mut out);
    assert!(out.is_empty());
}

#[test]
fn a_key_update_is_answered() {
    let identity = identity();
    let mut pair = Pair::new(&identity.server(), &identity.client(BOTH, &[]));
    pair.run().unwrap();
    for _ in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
        check_echo(&mut pair, b"under new keys");
    }
}

#[test]
fn configuration_errors_say_what_to_do_and_never_show_the_key() {
    let (good, other) = (identity(), identity());
    let secret = good.key_pem.lines().nth(1).unwrap().to_owned();
    let broken_cert = good.cert_pem.replacen("-----END CERTIFICATE-----", "", 1);
    let broken_key = good.key_pem.replacen("-----END", "-----XX", 1);
    let bad_base64 = good.cert_pem.replace("MII", "M*I");
    let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
    let encrypted = good.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let damaged = |what| TlsConfigError::BadCertificate { number: 1, what };
    let cases = [
        ("", good.key_pem.as_str(), TlsConfigError::NoCertificate),
        (&good.key_pem, &good.key_pem, TlsConfigError::NoCertificate),
        (&broken_cert, &good.key_pem, damaged("its END line is missing")),
        (&bad_base64, &good.key_pem, damaged("its base64 is malformed")),
        (not_x509, &good.key_pem, TlsConfigError::InvalidCertificate),
        (&good.cert_pem, "", TlsConfigError::NoKey),
        (&good.cert_pem, &good.cert_pem, TlsConfigError::NoKey),
        (&good.cert_pem, &broken_key, TlsConfigError::BadKey),
        (&good.cert_pem, &encrypted, TlsConfigError::EncryptedKey),
        (&good.cert_pem, not_a_key, TlsConfigError::UnsupportedKey),
        (&good.cert_pem, &other.key_pem, TlsConfigError::KeyMismatch),
    ];
    for (cert, key, expected) in cases {
        let error = TlsConfig::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error, expected);
        let text = format!("{error} {error:?}");
        assert!(!text.contains(&secret) && text.len() > 40, "{text}");
    }
}

#[test]
fn mutated_conversations_never_panic_and_always_end_with_an_answer() {
    let identity = identity();
    let server = identity.server();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    for round in 0..400 {
        let versions = if round % 2 == 0 { [&version::TLS13] } else { [&version::TLS12] };
        let mut pair = Pair::new(&server, &identity.client(&versions, &["h2"]));
        if round % 4 > 1 {
            pair.run().unwrap();
        }
        let mut failed = None;
        for _ in 0..4 {
            let _ = pair.client.writer().write_all(&[1; 100]);
            let mut up = pair.client_output();
            for _ in 0..next(4) {
                if !up.is_empty() {
                    let at = next(up.len());
                    up[at] = next(256) as u8;
                }
            }
            if next(3) == 0 {
                up.truncate(next(up.len() + 1));
            }
            let mut down = Vec::new();
            for part in up.chunks(next(300) + 1) {
                let result = pair.server.feed(part, &mut pair.got, &mut down);
                assert_eq!(
                    failed.is_some(),
                    matches!((failed, result), (Some(a), Err(b)) if a == b)
                );
                failed = failed.or(result.err());
            }
            let _ = pair.server.write(b"x", &mut down);
            pair.deliver(&down);
        }
    }
}
