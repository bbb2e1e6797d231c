//! A proxy before ClickHouse or an object store that misbehaves on command.
//!
//! It takes whole requests, each over a connection of its own to the server, so it stays in place
//! while that is killed and started again; its clients may keep their connections. Plain threads,
//! one for each connection. With a certificate it also is the TLS that ClickHouse lacks here.

use super::CAP;
use super::message::{Body, Head, send};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// What happens to requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The server gets them, the client gets the answer.
    Pass,
    /// Connections are closed as soon as they are accepted; so are older ones, at their next
    /// request.
    Refuse,
    /// The server hears nothing, the client gets this; headers end with CRLF each.
    Status { status: u16, headers: String, body: String },
    /// The server gets them and answers; instead of the answer the client sees the connection end.
    /// What timed out after it was committed.
    DropAnswer,
    /// They are read, and nothing ever happens.
    Hang,
}

impl Mode {
    /// An answer without further headers.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Status { status, headers: String::new(), body: body.to_owned() }
    }

    /// ClickHouse's way to say no, such as `(252, "TOO_MANY_PARTS", "Too many parts (3000)")`.
    pub fn exception(code: u32, name: &str, text: &str) -> Self {
        let headers = format!("X-ClickHouse-Exception-Code: {code}\r\n");
        let body = format!("Code: {code}. DB::Exception: {text}. ({name}) (version 26.7.2.1)\n");
        Self::Status { status: 500, headers, body }
    }
}

/// How many requests met each mode, counted when they had been read to their end; with
/// [`Mode::DropAnswer`], when the server had answered; with [`Mode::Refuse`], connections too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub pass: u64,
    pub refuse: u64,
    pub status: u64,
    pub drop_answer: u64,
    pub hang: u64,
}

impl Seen {
    fn count(&mut self, mode: &Mode) {
        *match mode {
            Mode::Pass => &mut self.pass,
            Mode::Refuse => &mut self.refuse,
            Mode::Status { .. } => &mut self.status,
            Mode::DropAnswer => &mut self.drop_answer,
            Mode::Hang => &mut self.hang,
        } += 1;
    }
}

/// A running proxy. When it goes out of scope its connections end.
pub struct FaultProxy {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    scheme: &'static str,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    mode: Mode,
    /// What the next requests meet before `mode` holds again.
    first: VecDeque<Mode>,
    seen: Seen,
    open: Vec<TcpStream>,
    ended: bool,
}

type Tls = Option<Arc<rustls::ServerConfig>>;

impl FaultProxy {
    /// A proxy on a free port that passes everything to the server.
    pub fn start(server: SocketAddr) -> Self {
        Self::listen(server, None)
    }

    /// The same over TLS, with a certificate for `localhost` and 127.0.0.1 that it signed itself
    /// and left as `cert.pem` in the folder.
    pub fn start_tls(server: SocketAddr, folder: &Path) -> Self {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).expect("a pair");
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("a file");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                let config = config.with_no_client_auth();
                config.with_single_cert(vec![made.cert.der().clone()], key.into())
            });
        Self::listen(server, Some(Arc::new(config.expect("a pair that was just made"))))
    }

    fn listen(server: SocketAddr, tls: Tls) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (mode, seen) = (Mode::Pass, Seen::default());
        let shared =
            Shared { server, mode, first: VecDeque::new(), seen, open: Vec::new(), ended: false };
        let shared = Arc::new(Mutex::new(shared));
        let own = Arc::clone(&shared);
        let accepting = Some(std::thread::spawn(move || accept(&listener, &own, &tls)));
        Self { shared, address, scheme, accepting }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As clients take it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Holds for every request whose head comes from now on.
    pub fn set(&self, mode: Mode) {
        self.script(&[], mode);
    }

    /// The next requests meet these, one each, and those after them `then`.
    pub fn script(&self, first: &[Mode], then: Mode) {
        let mut shared = lock(&self.shared);
        shared.first = first.iter().cloned().collect();
        shared.mode = then;
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        lock(&self.shared).seen
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        // It waits for a connection: this is one.
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().map(JoinHandle::join);
        for stream in &lock(&self.shared).open {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("nobody panics with it")
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<Shared>>, tls: &Tls) {
    while let Ok((stream, _)) = listener.accept() {
        let mut state = lock(shared);
        if state.ended {
            return;
        }
        if state.mode == Mode::Refuse {
            state.seen.count(&Mode::Refuse);
            continue;
        }
        let Ok(kept) = stream.try_clone() else { continue };
        state.open.retain(|stream| stream.peer_addr().is_ok());
        state.open.push(kept);
        let (shared, tls) = (Arc::clone(shared), tls.clone());
        std::thread::spawn(move || {
            // A client that goes away is what the tests are about; it ends the connection.
            let _ = serve_over(&shared, &stream, tls);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn serve_over(shared: &Mutex<Shared>, stream: &TcpStream, tls: Tls) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(CAP))?;
    match tls {
        None => serve(shared, stream),
        Some(config) => {
            let session = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
            serve(shared, rustls::StreamOwned::new(session, stream))
        }
    }
}

/// One connection of a client.
fn serve(shared: &Mutex<Shared>, stream: impl Read + Write) -> io::Result<()> {
    let mut client = BufReader::new(stream);
    while let Some(head) = Head::read(&mut client)? {
        let mode = {
            let mut shared = lock(shared);
            shared.first.pop_front().unwrap_or_else(|| shared.mode.clone())
        };
        if mode == Mode::Refuse {
            lock(shared).seen.count(&mode);
            return Ok(());
        }
        if head.header("expect") == "100-continue" {
            client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = Body::of_request(&head, &mut client)?;
        if mode != Mode::DropAnswer {
            lock(shared).seen.count(&mode);
        }
        let (answer, body) = match mode {
            Mode::Hang => {
                io::copy(&mut client, &mut io::sink())?;
                return Ok(());
            }
            Mode::Status { status, headers, body } => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} Injected\r\nContent-Length: {length}\r\n{headers}\r\n"
                );
                client.get_mut().write_all(&[head, body].concat().into_bytes())?;
                client.get_mut().flush()?;
                continue;
            }
            _ => {
                let server = lock(shared).server;
                let method = head.start().next().unwrap_or_default();
                send(server, method, &[head.bytes(), &body.wire])?
            }
        };
        if mode == Mode::DropAnswer {
            lock(shared).seen.count(&Mode::DropAnswer);
            return Ok(());
        }
        client.get_mut().write_all(&[answer.bytes(), &body.wire].concat())?;
        client.get_mut().flush()?;
        if answer.header("connection") == "close" || !answer.bytes().starts_with(b"HTTP/1.1") {
            return Ok(());
        }
    }
    Ok(())
}
