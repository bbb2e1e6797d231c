//! The threads that feed the server. Each owns a [`Publisher`] and never stops while the server is
//! away: what it has waits.

use super::Shared;
use super::machine::{Files, Reading};
use super::orders::Replay;
use super::publisher::Publisher;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Channels of the first feed.
pub const SYSTEM: [&str; 4] = ["system:cpu", "system:memory", "system:network", "system:disk"];
/// Every order, for whoever must have all.
pub const ORDERS: &str = "orders:all";
/// Every order, for screens: who falls behind is given the newest.
pub const TICKER: &str = "ticker:orders";

/// Milliseconds since the epoch, with fractions, as JSON.
fn now_ms() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:.3}", now.as_micros() as f64 / 1_000.0)
}

/// This machine's figures, every second.
pub fn machine(shared: &Arc<Shared>, mut publisher: Publisher) {
    let started = Instant::now();
    let read = || Reading::parse(&Files::read(), started.elapsed().as_secs_f64());
    let mut earlier = read();
    let mut second = 1;
    loop {
        let due = started + Duration::from_secs(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        second += 1;
        let (now, t) = (read(), now_ms());
        let texts = [
            now.cpu_json(&earlier, &t),
            now.memory_json(&t),
            now.network_json(&earlier, &t),
            now.disk_json(&earlier, &t),
        ];
        earlier = now;
        for (channel, text) in SYSTEM.into_iter().zip(&texts) {
            publisher.push(channel, "metric", text);
        }
        flush(shared, &mut publisher, due + Duration::from_millis(900));
        let dropped = publisher.dropped();
        if dropped > 0 {
            let note = format!("{dropped} readings found no room while the server was away");
            shared.change(|status| status.feeds.system = note);
        }
    }
}

/// Tries until nothing waits or it is time for something else.
fn flush(shared: &Shared, publisher: &mut Publisher, until: Instant) {
    while publisher.flush().is_err() && Instant::now() < until && !shared.is_stopping() {
        std::thread::sleep(RETRY);
    }
}

/// The orders, as they are due, once they are there.
pub fn orders(shared: &Arc<Shared>, mut publisher: Publisher, mut replay: Replay) {
    shared.change(|status| status.feeds.orders = "a day in 6 s".to_owned());
    let mut last = Instant::now();
    let mut elapsed = Duration::ZERO;
    loop {
        std::thread::sleep(ORDERS_TICK);
        let now = Instant::now();
        // A replay can wait: while there is no room its clock stands still.
        if !publisher.is_full() {
            elapsed += now - last;
        }
        last = now;
        while !publisher.is_full()
            && let Some((number, order)) = replay.due(elapsed.as_millis() as u64)
        {
            let text = order.json(number, &now_ms());
            publisher.push(ORDERS, "order", &text);
            publisher.push(TICKER, "order", &text);
        }
        flush(shared, &mut publisher, now + ORDERS_TICK);
    }
}

const RETRY: Duration = Duration::from_millis(50);
const ORDERS_TICK: Duration = Duration::from_millis(40);
