//! `shardcast demo`: see it work on real input, and kill it.
//!
//! ```text
//! supervisor ── server (killed and restarted)        serves the page, clients and feeds
//!     ├──────── clients, a process of their own      5,000 WebSockets that check every event
//!     ├ thread  feed: this machine from /proc
//!     ├ thread  feed: 69,659 real orders, replayed
//!     ├ thread  the button: a subscriber of `demo:button`
//!     ├ thread  figures and status: a publisher of `demo:stats` and `demo:status`
//!     └ thread  reads the clients' reports
//! ```
//!
//! Everything goes through the server's public doors; nothing in it knows of the demo. The feeds
//! ask for `ack=durable` and repeat with the same ids until they have it; the clients resume from
//! their positions; the verdict after a kill is counted from both ends.
//!
//! Deliberately absent: addresses other than loopback, TLS.
//! Tested in pieces here, and as a whole, in Chromium, by `tests/tests/it/demo.rs`.

mod acked;
mod button;
pub mod clients;
mod dataset;
mod feeds;
mod figures;
mod http;
mod machine;
mod orders;
mod publisher;
pub mod server;
mod status;
mod supervisor;

use crate::cli::args::DemoArgs;
use crate::cli::exit;
use acked::Acked;
use clients::report::Report;
use feeds::{ORDERS, SYSTEM, TICKER};
use publisher::Publisher;
use server::Launch;
use status::{FeedNotes, Phase, Status};
use std::io::BufRead;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use supervisor::Supervisor;

/// What the slow client reads: a fraction of the orders, and enough to answer pings in time.
const SLOW_BYTES_PER_S: u32 = 2_048;

/// What the supervisor's threads share.
struct Shared {
    /// With a number that grows with every change.
    status: Mutex<(u64, Status)>,
    report: Mutex<Report>,
    acked: Arc<Mutex<Acked>>,
    /// Events that wait in each feed.
    feeds: [Arc<AtomicUsize>; 2],
    stopping: AtomicBool,
}

impl Shared {
    fn status(&self) -> (u64, Status) {
        lock(&self.status).clone()
    }

    /// Changes the status; nothing happens if that leaves it as it was.
    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut guard = lock(&self.status);
        let (version, status) = &mut *guard;
        let before = status.clone();
        change(status);
        *version += u64::from(*status != before);
    }

    fn waiting(&self) -> usize {
        self.feeds.iter().map(|feed| feed.load(Relaxed)).sum()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked holding it left plain data behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the demo; gives the exit code.
pub fn run(args: &DemoArgs) -> u8 {
    let (launch, folder) = match prepare(args) {
        Ok(prepared) => prepared,
        Err(message) => {
            eprintln!("shardcast: {message}");
            return exit::USAGE;
        }
    };
    let code = match supervise(args, launch) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("shardcast: {message}");
            exit::CONFIG
        }
    };
    drop(folder);
    code
}

/// A folder that is ours and goes with us.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn prepare(args: &DemoArgs) -> Result<(Launch, Option<Temporary>), String> {
    let address = |flag: &str, text: &str| -> Result<SocketAddr, String> {
        let parsed: SocketAddr =
            text.parse().map_err(|_| format!("{flag} {text}: write it as 127.0.0.1:8000"))?;
        match parsed.ip().is_loopback() && parsed.port() != 0 {
            true => Ok(parsed),
            // Whoever reaches the page can kill the server.
            false => Err(format!("{flag} {text}: the demo serves loopback only, on a fixed port")),
        }
    };
    let listen = address("--listen", &args.listen)?;
    let admin = address("--admin-listen", &args.admin_listen)?;
    let (data_dir, folder) = match &args.data_dir {
        Some(folder) => (folder.clone(), None),
        None => {
            let folder = temporary_folder().map_err(|e| format!("no temporary folder: {e}"))?;
            (folder.clone(), Some(Temporary(folder)))
        }
    };
    let click_house = args.store.as_deref().map(|store| match store.split_once('=') {
        Some(("clickhouse", url)) if url.starts_with("http") => Ok(url.to_owned()),
        _ => Err(format!("--store {store}: write it as clickhouse=http://127.0.0.1:8123")),
    });
    let click_house = click_house.transpose()?;
    let (engine, shards) = (args.engine.clone(), args.shards);
    Ok((Launch { listen, admin, data_dir, engine, shards, click_house }, folder))
}

/// Nobody else's: made by us, readable by us.
fn temporary_folder() -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("shardcast-demo-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn supervise(args: &DemoArgs, launch: Launch) -> Result<u8, String> {
    let run = format!("{:x}", rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_nsec);
    let acked = Arc::new(Mutex::new(Acked::default()));
    let publishers =
        ["m", "o"].map(|feed| Publisher::new(launch.listen, &format!("{feed}{run}"), &acked));
    let clients = clients_possible(args.clients);
    let shared = Arc::new(Shared {
        status: Mutex::new((1, first_status(clients))),
        report: Mutex::default(),
        acked,
        feeds: publishers.each_ref().map(Publisher::waiting),
        stopping: AtomicBool::new(false),
    });
    let stopped = Arc::clone(&shared);
    let stop = move || stopped.stopping.store(true, Relaxed);
    crate::cli::signals::on_stop(stop).map_err(|error| format!("signals: {error}"))?;
    launch.addresses_are_free()?;
    introduce(&launch, clients, &launch.data_dir);
    let server = supervisor::first_start(&shared, &launch)?;
    let pid = server.pid();
    shared.change(|status| status.pid = pid);
    let [machine, orders_feed] = publishers;
    let own = Arc::clone(&shared);
    spawn("machine", move || feeds::machine(&own, machine))?;
    let has_orders = start_orders(&shared, orders_feed)?;
    let started = start_clients(launch.listen, clients, has_orders);
    let mut child = started.map_err(|error| format!("cannot start the clients: {error}"))?;
    let (Some(orders), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the clients have no pipes".to_owned());
    };
    let (sender, presses) = mpsc::sync_channel(1);
    let listening = Arc::new(AtomicBool::new(false));
    let (address, admin) = (launch.listen, launch.admin);
    let heard = Arc::clone(&listening);
    spawn("button", move || button::listen(address, heard, sender))?;
    let own = Arc::clone(&shared);
    spawn("reports", move || {
        for line in std::io::BufReader::new(reports).lines().map_while(Result::ok) {
            if let Ok(report) = serde_json::from_str(&line) {
                *lock(&own.report) = report;
            }
        }
    })?;
    let own = Arc::clone(&shared);
    spawn("figures", move || figures::speak(&own, address, admin))?;
    if args.open {
        open_page(launch.listen);
    }
    let button = (presses, listening);
    Ok(Supervisor::new(shared, launch, server, child, orders, button).run())
}

/// Starts the second feed. True if it is running; a download that takes longer than clients should
/// wait for goes on, and the page shows the orders when they come.
fn start_orders(shared: &Arc<Shared>, publisher: Publisher) -> Result<bool, String> {
    let (sender, loaded) = mpsc::channel();
    shared.change(|status| status.feeds.orders = "fetching them with pip …".to_owned());
    let own = Arc::clone(shared);
    spawn("orders", move || match dataset::load() {
        Ok(replay) => {
            let _ = sender.send(true);
            feeds::orders(&own, publisher, replay);
        }
        Err(reason) => {
            let note = format!("not running: {reason}");
            println!("  orders    {note}");
            own.change(|status| status.feeds.orders = note);
            let _ = sender.send(false);
        }
    })?;
    Ok(loaded.recv_timeout(ORDERS_AWAITED).unwrap_or(false))
}

fn first_status(clients: u32) -> Status {
    let feeds = FeedNotes { system: "from /proc, every second".to_owned(), orders: String::new() };
    Status {
        phase: Phase::Starting,
        pid: 0,
        clients,
        kills: 0,
        resumed: 0,
        of: 0,
        verdicts: Vec::new(),
        feeds,
    }
}

fn introduce(launch: &Launch, clients: u32, data_dir: &Path) {
    println!("Shardcast demo; Ctrl-C stops everything.");
    println!("  page      http://{}/", launch.listen);
    println!("  figures   http://{}/metrics", launch.admin);
    println!("  clients   {clients} WebSockets, in a process of their own");
    println!("  data      {}", data_dir.display());
    if let Some(url) = &launch.click_house {
        println!("  store     ClickHouse at {url}; try");
        println!(
            "            curl '{url}' --data-binary 'SELECT channel, count() FROM \
             {}.events GROUP BY channel'",
            server::DATABASE
        );
    }
}

/// The server and the clients' process need a descriptor for each.
fn clients_possible(wanted: u32) -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = limit.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_SPARE);
    let possible = u64::from(wanted).min(most) as u32;
    if possible < wanted {
        eprintln!(
            "shardcast: {possible} clients instead of {wanted}: this shell may open no more \
             descriptors; raise `ulimit -Hn`"
        );
    }
    possible
}

fn start_clients(server: SocketAddr, clients: u32, has_orders: bool) -> std::io::Result<Child> {
    // Orders come much more often than figures: an eighth of the clients follows them. Nobody may
    // follow a channel that never gets an event: a server that is killed forgets such a channel.
    let mut channels = [SYSTEM, SYSTEM].concat();
    if has_orders {
        channels[7] = ORDERS;
    }
    let peers = if has_orders { TICKER } else { SYSTEM[0] };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("demo-clients");
    command.args(["--server", &server.to_string(), "--clients", &clients.to_string()]);
    command.args(["--channels", &channels.join(","), "--peers", peers]);
    command.args(["--slow-bytes-per-s", &SLOW_BYTES_PER_S.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// By the desktop's opener; where there is none, the address is on the terminal.
fn open_page(address: SocketAddr) {
    let url = format!("http://{address}/");
    let mut command = Command::new("xdg-open");
    command.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        eprintln!("shardcast: there is no xdg-open; open {url} yourself");
    }
}

/// How long the clients wait for the orders: pip takes a few seconds.
const ORDERS_AWAITED: Duration = Duration::from_secs(10);
/// For the spool, the listeners, the page, the feeds and the like.
const DESCRIPTORS_SPARE: u64 = 512;
