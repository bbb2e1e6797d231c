//! Key sets from a file and from real HTTP and HTTPS servers: rotation, failure, limits. Not in
//! every cell: they are read on a thread of their own, whatever the engine.

use super::*;
use crate::rig::{Process, child::curl, process::Plan, until};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A key of an issuer.
struct Pair {
    pair: Ed25519KeyPair,
    kid: String,
}

impl Pair {
    fn new(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        Self { pair, kid: kid.to_owned() }
    }

    fn entry(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    /// The header field of a token.
    fn field(&self) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "kid": self.kid});
        let claims = json!({"sub": "ann", "exp": now_s() + 600});
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        bearer(&format!("{signed}.{signature}"))
    }
}

fn set(pairs: &[&Pair]) -> String {
    json!({"keys": pairs.iter().map(|pair| pair.entry()).collect::<Vec<_>>()}).to_string()
}

/// An issuer's server: it answers every request with what it holds, over TLS or not.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Issuer {
    fn start(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(String::new()));
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&stop));
        let tls = tls.map(Arc::new);
        let thread = std::thread::spawn(move || {
            let (answer, asked, stop) = shared;
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let text = answer.lock().expect("not poisoned").clone();
                match &tls {
                    None => serve(stream, &text),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(Arc::clone(config));
                        serve(rustls::StreamOwned::new(session.expect("a session"), stream), &text);
                    }
                }
            }
        });
        Self { address, answer, asked, stop, thread: Some(thread) }
    }

    /// From here on it answers with this body.
    fn holds(&self, body: &str) {
        let length = body.len();
        self.says(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    }

    /// From here on it answers with exactly this.
    fn says(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().expect("not poisoned"));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a head, answers, closes. A client that goes away is no matter.
fn serve(mut stream: impl Read + Write, answer: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

fn plan(folder: &Path, jwks: &str) -> Plan {
    Plan::new(Cell::URING_2, folder)
        .set(&format!("auth.jwks={jwks}"))
        .set("auth.jwks_allow_private=true")
        .set("auth.jwks_refresh_s=10")
}

/// The status of a read with a key's token.
fn status(server: &Process, pair: &Pair) -> u16 {
    let path = "/v1/channels/c/events";
    server.wire().request("GET", path, &pair.field(), b"").status
}

#[test]
fn keys_rotate_and_stay_while_their_server_fails() {
    let (one, two, three) = (Pair::new("one"), Pair::new("two"), Pair::new("three"));
    let issuer = Issuer::start(None);
    issuer.holds(&set(&[&one]));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}/keys?secret=canary-of-the-query", issuer.address);
    let server = plan(folder.path(), &url).start();
    assert_eq!(status(&server, &one), 200);
    // A name that is not there is looked for; the client is told to come back.
    issuer.holds(&set(&[&one, &two]));
    let first = server.wire().request("GET", "/v1/channels/c/events", &two.field(), b"");
    assert!(matches!(first.status, 200 | 503), "{first:?}");
    if first.status == 503 {
        assert_eq!((first.code(), first.header("retry-after")), ("keys_pending".to_owned(), "5"));
    }
    until("the second key", || status(&server, &two) == 200);
    assert_eq!(status(&server, &one), 200);
    // The server fails in every way that it has; the keys stay.
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        issuer.address
    );
    let huge =
        format!("HTTP/1.1 200 OK\r\n\r\n{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10));
    for answer in ["HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", &redirect, &huge, "nonsense"] {
        issuer.says(answer);
        let before = issuer.asked();
        until("another round", || issuer.asked() > before);
        assert_eq!((status(&server, &one), status(&server, &two)), (200, 200), "{answer:.60}");
    }
    // The first key is withdrawn, the third comes; a key nobody has is refused for good at last.
    issuer.holds(&set(&[&two, &three]));
    until("the third key", || status(&server, &three) == 200);
    assert_eq!(status(&server, &two), 200);
    until("the end of the first key", || status(&server, &one) == 401);
    let log = server.log();
    assert!(log.contains("key set") && !log.contains("canary-of-the-query"), "{log}");
}

#[test]
fn a_flood_of_unknown_names_does_not_reach_the_issuer() {
    let known = Pair::new("known");
    let issuer = Issuer::start(None);
    issuer.holds(&set(&[&known]));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}/keys", issuer.address);
    let server = plan(folder.path(), &url).start();
    let (before, start) = (issuer.asked(), std::time::Instant::now());
    let mut wire = server.wire();
    for n in 0..500 {
        let stranger = Pair { kid: format!("k{n}"), ..Pair::new("") };
        let answer = wire.request("GET", "/v1/channels/c/events", &stranger.field(), b"");
        assert!(matches!(answer.status, 401 | 503), "{answer:?}");
    }
    // One round in five seconds at most, however many asked.
    let rounds = issuer.asked() - before;
    let most = 1 + start.elapsed().as_secs() as usize / 5;
    assert!(rounds <= most, "{rounds} rounds for 500 names in {:?}", start.elapsed());
    assert_eq!(status(&server, &known), 200);
}

#[test]
fn keys_come_over_tls_that_is_checked() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .expect("a certificate");
    let issuer = Issuer::start(Some(config));
    let pair = Pair::new("k");
    issuer.holds(&set(&[&pair]));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).expect("a file");
    let url = format!("https://localhost:{}/keys", issuer.address.port());
    let trusting =
        plan(folder.path(), &url).set(&format!("auth.jwks_ca_file={}", ca.display())).start();
    assert_eq!(status(&trusting, &pair), 200);
    drop(trusting);
    // Another authority's certificate is nobody's: the server starts, says so and waits.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    std::fs::write(&ca, other.cert.pem()).expect("a file");
    let doubting = plan(folder.path(), &url)
        .data_dir(&folder.path().join("other"))
        .set(&format!("auth.jwks_ca_file={}", ca.display()))
        .start();
    assert_eq!(status(&doubting, &pair), 503);
    // An event stream cannot be told so by its status: a browser would not come back.
    let mut wire = doubting.wire();
    let field = pair.field();
    wire.send(format!("GET /v1/sse?channel=c HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"));
    assert_eq!(wire.head().status, 200);
    let words = String::from_utf8(wire.rest()).expect("text");
    assert!(words.starts_with("retry: "), "{words}");
    let notice =
        "event: shardcast.notice\ndata: {\"shardcast\":\"notice\",\"reason\":\"keys_pending\"}\n\n";
    assert!(words.ends_with(notice) && words.matches("retry:").count() == 1, "{words}");
    let url = format!("http://{}/v1/sse?channel=c", doubting.address);
    let said = curl(&["--http2-prior-knowledge", "--header", field.trim_end(), &url]);
    assert!(said.ends_with(notice) && said.matches("retry:").count() == 1, "{said}");
    until("the log", || doubting.log().contains("the key set cannot be read"));
}

#[test]
fn keys_come_from_a_file_that_is_read_again() {
    let (one, two) = (Pair::new("one"), Pair::new("two"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, set(&[&one])).expect("a file");
    let server = plan(folder.path(), &file.display().to_string()).start();
    assert_eq!((status(&server, &one), status(&server, &two)), (200, 503));
    std::fs::write(&file, set(&[&two])).expect("a file");
    until("the second key", || status(&server, &two) == 200);
    std::fs::remove_file(&file).expect("it is there");
    until("the complaint", || server.log().contains("the key set cannot be read"));
    assert_eq!(status(&server, &two), 200);
    // At start it must be there and be one.
    for content in [None, Some("{}")] {
        let _ = content.map(|text| std::fs::write(&file, text));
        let mut command = plan(&folder.path().join("x"), &file.display().to_string()).command();
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert_eq!(said.matches("jwks.json").count(), 1, "{said}");
        assert!(!said.contains("tried again"), "{said}");
    }
}
