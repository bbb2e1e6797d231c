//! The key set (JWKS): read from a file or fetched from a URL, at start, on a timer, and when a
//! token names a key that is not there.
//!
//! A thread of its own with a small tokio runtime, so that neither a shard nor the admin listener
//! ever waits for somebody else's server. A file must be good at start; a URL may fail then (the
//! server starts, and tokens are refused for the moment), and whatever fails later leaves the keys
//! as they were. Between two rounds lie at least [`PAUSE`], whoever asks.
//!
//! The URL is the configuration's and never a token's. Its name is resolved, the addresses are
//! looked at (private ones are refused unless allowed), and the connection goes to one of those
//! addresses. Redirects are not followed. Bounded: time, head, body, keys.
//!
//! Tested against real HTTP and HTTPS servers in `tests/tests/it/auth`.

use crate::auth::{AlgorithmSet, Feed, JWKS_BYTES_MAX, Key, parse_jwks};
use crate::config::{AuthConfig, is_private, whole};
use crate::log;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use storage::sink::tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// The running reader. Dropping it stops it.
pub struct KeySetReader {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is wrong, and what to do.
pub type StartError = (String, &'static str);

impl KeySetReader {
    /// Reads the set for the first time, and again until it is dropped.
    pub fn start(config: &AuthConfig, feed: Arc<Feed>) -> Result<Self, StartError> {
        let source = Source::new(config).map_err(|e| (e, "see `auth.jwks` and its neighbours"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| (e.to_string(), "raise `ulimit -n`"))?;
        let algorithms = config.algorithm_set();
        let every = Duration::from_secs(config.jwks_refresh_s.into());
        let mut rounds = Rounds { source, feed, algorithms, failing: false };
        if let Err(error) = runtime.block_on(rounds.run(true))
            && let Source::File(path) = &rounds.source
        {
            let text = format!("auth.jwks {}: {error}", whole(path));
            return Err((text, "give it a JSON object with a list `keys` (RFC 7517)"));
        }
        let wanted = Arc::new(Notify::new());
        let asked = Arc::clone(&wanted);
        rounds.feed.on_wanted(move || asked.notify_one());
        let (stop, stopped) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("key-set".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = rounds.run_forever(every, &wanted) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let thread = spawned.map_err(|e| (e.to_string(), "raise `ulimit -u`"))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for KeySetReader {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Rounds {
    source: Source,
    feed: Arc<Feed>,
    algorithms: AlgorithmSet,
    failing: bool,
}

impl Rounds {
    async fn run_forever(mut self, every: Duration, wanted: &Notify) {
        loop {
            sleep(PAUSE).await;
            let rest = if self.failing { Duration::ZERO } else { every.saturating_sub(PAUSE) };
            tokio::select! {
                () = sleep(rest) => {}
                () = wanted.notified() => {}
            }
            // What is wrong was logged.
            let _ = self.run(false).await;
        }
    }

    /// One round. The log hears of the first failure and of the first success after it; a file that
    /// cannot be read at the start ends that, and the error says it.
    async fn run(&mut self, starts: bool) -> Result<(), String> {
        let round = self.feed.begin();
        match self.source.read(self.algorithms).await {
            Ok((keys, others)) => {
                if self.failing || round == 1 {
                    let place: &dyn std::fmt::Display = &self.source;
                    let (used, left_out) = (keys.len(), others);
                    let fields: [log::Field<'_>; 3] =
                        [("from", place), ("keys", &used), ("left_out", &left_out)];
                    log::info("key set read", &fields);
                }
                self.failing = false;
                self.feed.load(round, keys);
                Ok(())
            }
            Err(error) => {
                let ends = starts && matches!(self.source, Source::File(_));
                if !self.failing && !ends {
                    let held = self.feed.keys().len();
                    log::warn(
                        "the key set cannot be read; the keys stay as they are, and it is tried again",
                        &[("from", &self.source), ("keys", &held), ("error", &error)],
                    );
                }
                self.failing = true;
                Err(error)
            }
        }
    }
}

enum Source {
    File(PathBuf),
    Url { uri: Uri, allow_private: bool, tls: TlsConnector },
}

impl std::fmt::Display for Source {
    /// Without the query: it may hold a key of the issuer's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { uri, .. } => {
                let scheme = uri.scheme_str().unwrap_or_default();
                let host = uri.authority().map_or("", |authority| authority.as_str());
                write!(f, "{scheme}://{host}{}", uri.path())
            }
        }
    }
}

impl Source {
    fn new(config: &AuthConfig) -> Result<Self, String> {
        if !config.jwks_is_url() {
            return Ok(Self::File(config.jwks.clone().into()));
        }
        let uri: Uri = config.jwks.parse().map_err(|_| "auth.jwks is not a URL".to_owned())?;
        let secure = uri.scheme_str() == Some("https");
        let ca_file = Some(config.jwks_ca_file.as_path()).filter(|path| *path != Path::new(""));
        let tls = tls::client_config(ca_file.filter(|_| secure), secure)
            .map_err(|error| format!("auth.jwks_{error}"))?;
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self::Url { uri, allow_private: config.jwks_allow_private, tls })
    }

    async fn read(&self, algorithms: AlgorithmSet) -> Result<(Vec<Key>, usize), String> {
        let document = match self {
            Self::File(path) => read_file(path)?.into(),
            Self::Url { uri, allow_private, tls } => {
                let fetched = timeout(ROUND_TIME, fetch(uri, *allow_private, tls)).await;
                fetched.map_err(|_| format!("no answer within {ROUND_TIME:?}"))??
            }
        };
        parse_jwks(&document, algorithms).map_err(str::to_owned)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > JWKS_BYTES_MAX as u64 {
        return Err("the file is larger than 256 KiB".to_owned());
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

async fn fetch(uri: &Uri, allow_private: bool, tls: &TlsConnector) -> Result<Bytes, String> {
    let host = uri.host().unwrap_or_default();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(host, port, allow_private).await?;
    if !secure {
        return ask(stream, uri).await;
    }
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    ask(stream, uri).await
}

/// Connects to an address that was looked at: what a name means may change between two looks.
async fn connect(host: &str, port: u16, allow_private: bool) -> Result<TcpStream, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await;
    let found = found.map_err(|error| format!("the name has no address: {error}"))?;
    let addresses: Vec<SocketAddr> =
        found.filter(|address| allow_private || !is_private(address.ip())).collect();
    let mut last = "the name leads to private addresses only; if that is meant, set \
                    `auth.jwks_allow_private`"
        .to_owned();
    for address in addresses {
        match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no connection within {CONNECT_TIME:?}"),
        }
    }
    Err(last)
}

async fn ask<S>(stream: S, uri: &Uri) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let explain = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(explain)?;
    let driver = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header("host", authority)
        .header("accept", "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answered = sender.send_request(request).await.map_err(explain);
    let read = async {
        let response = answered?;
        if response.status() != 200 {
            return Err(format!("the answer is {}; 200 is needed", response.status()));
        }
        let body = Limited::new(response.into_body(), JWKS_BYTES_MAX).collect().await;
        let body = body.map_err(|_| "the body broke off or is larger than 256 KiB".to_owned())?;
        Ok(body.to_bytes())
    };
    let body = read.await;
    driver.abort();
    body
}

/// Between two rounds at least, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(5);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// For everything from the name to the last byte.
const ROUND_TIME: Duration = Duration::from_secs(10);
