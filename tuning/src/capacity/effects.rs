//! What one change alone would do to the plan, and what more or fewer users would.

use super::bounds;
use super::build::{Core, SERVERS_MAX, core, memory, peak_bits, total_cost};
use super::inputs::{Inputs, Transport};
use serde::{Deserialize, Serialize};

/// The plan after one change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// What is changed.
    pub name: String,
    /// What it rests on, and what it costs in return.
    pub about: String,
    /// Servers then.
    pub servers: u64,
    /// The limit then.
    pub limiting: String,
    /// Everything sent at the peak, bits a second.
    pub out_bits_per_s_peak: f64,
    /// Memory of connections, the kernel's included.
    pub memory_bytes: f64,
    /// In 30 days, where prices were given.
    pub cost: Option<f64>,
}

/// The plan for another number of users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Users.
    pub users: f64,
    /// Servers then.
    pub servers: u64,
    /// The limit then.
    pub limiting: String,
    /// In 30 days, where prices were given.
    pub cost: Option<f64>,
}

/// The plan as it is, then every change that can still be made.
pub(super) fn effects(inputs: &Inputs, now: &Core) -> Vec<Effect> {
    let mut found = vec![effect(inputs, now, "as planned", "")];
    let mut add = |name: &str, about: &str, change: &dyn Fn(&mut Inputs)| {
        let mut changed = inputs.clone();
        change(&mut changed);
        if changed != *inputs && bounds::check(&changed).is_ok() {
            found.push(effect(&changed, &core(&changed), name, about));
        }
    };
    let idle = |minutes: f64| {
        move |it: &mut Inputs| {
            let now = it.load.idle_timeout_min.unwrap_or(f64::INFINITY);
            it.load.idle_timeout_min = Some(minutes.min(now));
        }
    };
    let about = format!(
        "users are active for {} of {} minutes; the others poll or wait for a push",
        inputs.load.active_min, inputs.load.session_min
    );
    add("idle connections closed after 30 minutes", &about, &idle(30.0));
    add("idle connections closed after 5 minutes", &about, &idle(5.0));
    let batch = |ms: f64| move |it: &mut Inputs| it.wire.batch_ms = it.wire.batch_ms.max(ms);
    add("batches of 100 ms", "messages are up to 100 ms later", &batch(100.0));
    add("batches of 500 ms", "messages are up to 500 ms later", &batch(500.0));
    if inputs.wire.delta == 1.0 {
        let about = "a delta of 15 % of the message, as in one published recording of JSON";
        add("deltas", about, &|it| it.wire.delta = 0.15);
    }
    let compresses = inputs.wire.deflate == 1.0
        && inputs.wire.transport == Transport::Ws
        && inputs.load.message_bytes * inputs.wire.delta >= inputs.wire.deflate_bytes_min;
    if compresses {
        let about = "39 % of the message is left, as in one published recording of JSON; its CPU is \
                     not in it";
        add("compression", about, &|it| it.wire.deflate = 0.39);
    }
    match inputs.wire.transport {
        Transport::Ws => add("SSE instead of WebSocket", SSE, &|it| {
            it.wire.transport = Transport::Sse;
        }),
        Transport::Sse => add("WebSocket instead of SSE", WS, &|it| {
            it.wire.transport = Transport::Ws;
        }),
    }
    add("without TLS", "where something before the server ends it", &|it| it.wire.tls = false);
    add("senders do not get their own message", "", &|it| it.load.skip_sender = true);
    add("one server more (N-1)", "one may be down", &|it| it.reserve.n_minus_1 = true);
    found
}

const SSE: &str = "37 bytes of framing instead of 2 to 10, no frames upwards: publishing is a request \
                   of its own; heartbeats need no answer";
const WS: &str = "2 to 10 bytes of framing instead of 37, publishing on the same connection; \
                  heartbeats are answered";

fn effect(inputs: &Inputs, core: &Core, name: &str, about: &str) -> Effect {
    let memory = memory(inputs, core);
    Effect {
        name: name.to_owned(),
        about: about.to_owned(),
        servers: core.servers,
        limiting: core.limiting.clone(),
        out_bits_per_s_peak: peak_bits(inputs, core),
        memory_bytes: memory.user_bytes + memory.kernel_bytes,
        cost: total_cost(inputs, core),
    }
}

/// From a hundredth of the users to ten times as many.
pub(super) fn growth(inputs: &Inputs) -> Vec<Growth> {
    let at = |times: f64| {
        let mut changed = inputs.clone();
        changed.load.users = (inputs.load.users * times).round();
        changed.load.events_per_s = inputs.load.events_per_s;
        bounds::check(&changed).ok()?;
        let core = core(&changed);
        // What cannot be counted is not shown.
        ((core.servers as f64) <= SERVERS_MAX).then(|| Growth {
            users: changed.load.users,
            servers: core.servers,
            limiting: core.limiting.clone(),
            cost: total_cost(&changed, &core),
        })
    };
    GROWTH.iter().filter_map(|times| at(*times)).collect()
}

const GROWTH: [f64; 7] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
