//! Sockets of the admin listener: bind, accept, deadlines.

use super::{Context, cost, routes};
use crate::log;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// Binds the admin address, before anything else has been started.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it (another server?); stop that one, or choose another \
                 address with --admin-listen"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; choose another with --admin-listen"
            }
            _ => "choose another address with --admin-listen",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address} ({error}): {remedy}"))
    })
}

/// The running admin listener. Dropping it stops it.
pub struct AdminServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves on a bound socket, on a thread of its own.
    pub fn start(context: Context, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(cost::look(context.cost.clone(), context.shards.clone()));
                let router = routes::router(context);
                tokio::select! {
                    result = accept_loop(listener, router) => {
                        if let Err(error) = result {
                            log::error("the admin listener ended", &[("error", &error)]);
                        }
                    }
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept_loop(listener: TcpListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // With every slot taken the next one waits in the kernel's queue; deadlines free slots.
        let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                ACCEPT_ERRORS.warn("the admin listener cannot accept", &[("error", &error)]);
                // Out of descriptors does not get better by asking at once again.
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            serve(stream, router).await;
            drop(slot);
        });
    }
}

/// One connection to its end, which is never later than its deadline.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(http().serve_connection(TokioIo::new(stream), service));
    if timeout(CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CONNECTION_GRACE, connection).await;
    }
}

/// hyper's header timeout is inert without a timer, and its other limits are generous.
fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .keep_alive(true);
    http
}

static ACCEPT_ERRORS: log::Limit = log::Limit::new(1);

/// Prometheus, an operator, a probe or two; matches what the budget keeps back in descriptors.
const CONNECTIONS_MAX: usize = 64;
/// From accept, or the previous answer, to the end of a head. Idle keep-alive ends here too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Then the connection is asked to end: a scraper reconnects, a slow reader is got rid of.
pub(super) const CONNECTION_LIFE: Duration = Duration::from_secs(60);
pub(super) const CONNECTION_GRACE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
