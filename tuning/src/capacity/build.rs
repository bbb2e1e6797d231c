//! From inputs to a plan.

use super::bounds::{self, InputError};
use super::compare::{Month, discounts};
use super::effects;
use super::inputs::{Inputs, Load, Reserve};
use super::notes::notes;
use super::number::plain;
use super::plan::{Cost, Dimension, Elastic, Factor, Memory, Op, Plan, Stage, Term, Traffic};
use super::pod::{further_rooms, pod};
use super::wire::{self, Outgoing};

/// Plans. An input that makes no sense is refused by name.
pub fn plan(inputs: &Inputs) -> Result<Plan, InputError> {
    bounds::check(inputs)?;
    let core = core(inputs);
    if core.dimensions.is_empty() {
        let message = "nothing is known of a server; give --profile, --measured, or what it can do \
                       (--server-connections, --server-in, --server-out, --server-gbps, \
                       --server-memory)";
        return Err(InputError::new("--profile", message));
    }
    countable(&core)?;
    let traffic = traffic(inputs, &core);
    let cost = cost(inputs, &core, &traffic);
    let month = Month {
        messages: (traffic.in_per_s + traffic.out_per_s) * MONTH_S,
        connections: traffic.connections,
        payload_bytes: traffic.payload_bytes_month,
    };
    Ok(Plan {
        servers: core.servers,
        spare: u64::from(inputs.reserve.n_minus_1),
        limiting: core.limiting.clone(),
        memory: memory(inputs, &core),
        effects: effects::effects(inputs, &core),
        discounts: discounts(cost.as_ref()),
        managed: inputs.managed.iter().map(|it| it.compare(month, cost.as_ref())).collect(),
        growth: effects::growth(inputs),
        pod: inputs.pod_memory_bytes.map(|bytes| pod(inputs, bytes)),
        notes: notes(inputs, &core, &traffic),
        dimensions: core.dimensions,
        traffic,
        cost,
        inputs: inputs.clone(),
    })
}

/// Refuses what no fleet is. Above it a server more or less is lost in the rounding.
fn countable(core: &Core) -> Result<(), InputError> {
    let most = core.dimensions.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let Some(most) = most.filter(|most| !(0.0..=SERVERS_MAX).contains(&most.ratio)) else {
        return Ok(());
    };
    let message = format!(
        "{} asks for {} servers, more than can be counted ({}); lower --users, --users-per-room, the \
         rates or --message-bytes, or give a server more of it",
        most.name,
        plain(most.ratio),
        plain(SERVERS_MAX)
    );
    Err(InputError::new("the load", message))
}

/// What everything else is derived from.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) servers: u64,
    pub(super) limiting: String,
    pub(super) dimensions: Vec<Dimension>,
    pub(super) out: Outgoing,
}

/// Servers for inputs that were checked.
pub(super) fn core(inputs: &Inputs) -> Core {
    let Inputs { load, wire, reserve, .. } = inputs;
    let connections = load.connections();
    let delivered: f64 = published(load).iter().map(|it| receivers(it, load).ratio).sum();
    let out = wire::outgoing(load, wire, delivered / connections.max(1.0));
    let mut dimensions = Vec::new();
    let mut add = |name: &str, terms: Vec<Term>| {
        if !terms.is_empty() {
            dimensions.push(dimension(name, terms));
        }
    };
    add("connections", holding(inputs));
    add("messages in", taking(inputs));
    add("messages out", delivering(inputs));
    add("CPU", computing(inputs, &out));
    add("memory", remembering(inputs));
    add(BUDGET, admitting(inputs));
    add("bandwidth out", sending(inputs, &out));
    add("bandwidth in", receiving(inputs, &out));
    let needed = dimensions.iter().map(|it: &Dimension| it.servers).max().unwrap_or(1).max(1);
    let most = dimensions.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let limiting = most.map_or_else(String::new, |dimension| dimension.name.clone());
    let servers = needed.saturating_add(u64::from(reserve.n_minus_1));
    for dimension in &mut dimensions {
        dimension.used_at_peak = dimension.peak / servers as f64;
    }
    Core { servers, limiting, dimensions, out }
}

fn dimension(name: &str, terms: Vec<Term>) -> Dimension {
    let at = |stage| terms.iter().map(|term| term.up_to(stage)).sum::<f64>();
    let ratio = terms.iter().map(|term| term.ratio).sum::<f64>();
    Dimension {
        name: name.to_owned(),
        average: at(Stage::Average),
        peak: at(Stage::Peak),
        ratio,
        servers: whole_servers(ratio),
        used_at_peak: 0.0,
        terms,
    }
}

/// Rounded up. Products of decimal fractions end a little beside whole numbers (50.00000000000001),
/// and nobody runs a server for a thousand-millionth of its load.
pub(super) fn whole_servers(ratio: f64) -> u64 {
    (ratio * (1.0 - 1e-9)).ceil() as u64
}

/// A product in the making.
#[derive(Debug, Clone)]
struct Product {
    name: String,
    factors: Vec<Factor>,
    ratio: f64,
}

impl Product {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), factors: Vec::new(), ratio: 1.0 }
    }

    fn times(self, name: &str, value: f64) -> Self {
        self.with(name, Op::Times, value, Stage::Average)
    }

    fn over(self, name: &str, value: f64) -> Self {
        self.with(name, Op::Over, value, Stage::Average)
    }

    fn with(mut self, name: &str, op: Op, value: f64, stage: Stage) -> Self {
        let factor = Factor { name: name.to_owned(), op, value, stage };
        self.ratio = factor.apply(self.ratio);
        self.factors.push(factor);
        self
    }

    /// Rates have a peak; what is held at the busiest moment is that already.
    fn rate(self, reserve: &Reserve) -> Term {
        self.with("peak", Op::Times, reserve.peak, Stage::Peak).held(reserve)
    }

    fn held(self, reserve: &Reserve) -> Term {
        let done = self.with("headroom", Op::Times, reserve.headroom(), Stage::Headroom);
        Term { name: done.name, factors: done.factors, ratio: done.ratio }
    }
}

/// Messages a second by who publishes them.
fn published(load: &Load) -> Vec<Product> {
    let users = Product::new("messages of users")
        .times("users", load.users)
        .times("messages of a user in a minute", load.messages_per_user_min)
        .over("seconds in a minute", 60.0);
    let services =
        Product::new("events of services").times("events in a second", load.events_per_s);
    [users, services].into_iter().filter(|product| product.ratio > 0.0).collect()
}

/// Messages delivered for those published.
fn receivers(product: &Product, load: &Load) -> Product {
    connected(product.clone().times("receivers of a message", load.recipients()), load)
}

fn connected(product: Product, load: &Load) -> Product {
    match load.connected_share() {
        share if share < 1.0 => product.times("share that is connected", share),
        _ => product,
    }
}

/// Connections at the busiest moment.
fn held(name: &str, load: &Load) -> Product {
    connected(Product::new(name).times("users", load.users), load)
}

fn holding(inputs: &Inputs) -> Vec<Term> {
    let Some(most) = inputs.server.connections else { return Vec::new() };
    let product = held("connections", &inputs.load).over("connections of a server", most);
    vec![product.held(&inputs.reserve)]
}

fn taking(inputs: &Inputs) -> Vec<Term> {
    let Some(most) = inputs.server.in_per_s else { return Vec::new() };
    let products = published(&inputs.load).into_iter();
    products.map(|it| it.over("messages in, of a server", most).rate(&inputs.reserve)).collect()
}

fn delivering(inputs: &Inputs) -> Vec<Term> {
    let Some(most) = inputs.server.out_per_s else { return Vec::new() };
    let products = published(&inputs.load).into_iter().map(|it| receivers(&it, &inputs.load));
    products.map(|it| it.over("messages out, of a server", most).rate(&inputs.reserve)).collect()
}

fn computing(inputs: &Inputs, out: &Outgoing) -> Vec<Term> {
    let Inputs { load, wire, server, reserve, .. } = inputs;
    let Some(costs) = server.costs(wire.tls) else { return Vec::new() };
    let spent = |product: Product, name: &str, what: &str, each_us: f64| {
        let product = product.times(what, each_us);
        let product = product.over("microseconds of a core in a second", 1e6);
        Product { name: name.to_owned(), ..product.over("cores of a server", server.cores) }
    };
    let delivery_us = costs.send_us / out.batch + costs.message_us;
    let mut terms = Vec::new();
    for source in published(load) {
        // Where somebody said how many messages a server takes or delivers, that is what counts.
        if server.out_per_s.is_none() {
            let name = format!("delivering {}", source.name);
            let product = receivers(&source, load);
            terms.push(spent(product, &name, "microseconds a delivery", delivery_us).rate(reserve));
        }
        if server.in_per_s.is_none() {
            let name = format!("taking {}", source.name);
            terms
                .push(spent(source, &name, "microseconds an event", costs.ingest_us).rate(reserve));
        }
    }
    let accepted = Product::new("connecting")
        .times("users", load.users)
        .over("seconds of a session", load.session_min * 60.0);
    let connecting = spent(accepted, "connecting", "microseconds a connect", costs.accept_us);
    terms.push(connecting.rate(reserve));
    let beats = held("heartbeats", load).over("seconds between heartbeats", wire.heartbeat_s);
    let beats = spent(beats, "heartbeats", "microseconds a heartbeat", costs.heartbeat_us);
    terms.push(beats.held(reserve));
    terms
}

fn remembering(inputs: &Inputs) -> Vec<Term> {
    let Inputs { load, wire, server, reserve, .. } = inputs;
    let Some(memory) = server.memory_bytes else { return Vec::new() };
    let left = memory - server.bytes.base;
    let mut terms = vec![
        held("connections", load)
            .times("bytes of a connection", server.connection_bytes(wire.tls))
            .over("bytes of a server for them", left)
            .held(reserve),
    ];
    if further_rooms(inputs) > 0.0 {
        terms.push(
            held("further rooms", load)
                .times("further rooms of a user", further_rooms(inputs))
                .times("bytes of a room", server.bytes.channel)
                .over("bytes of a server for them", left)
                .held(reserve),
        );
    }
    terms
}

/// What the server allows itself is less than what would fit.
fn admitting(inputs: &Inputs) -> Vec<Term> {
    let Some(most) = inputs.server.admits(inputs.wire.tls) else { return Vec::new() };
    let product = held("connections", &inputs.load);
    vec![product.over("connections that the budget of a server admits", most).held(&inputs.reserve)]
}

fn sending(inputs: &Inputs, out: &Outgoing) -> Vec<Term> {
    let Inputs { load, wire, server, reserve, .. } = inputs;
    let Some(gbps) = server.link_gbps else { return Vec::new() };
    let mut terms = Vec::new();
    for source in published(load) {
        let product = receivers(&source, load)
            .times("bytes of payload", out.payload)
            .times("bits in a byte", 8.0)
            .over("bits of a server's link in a second", gbps * 1e9)
            .times("with framing, TLS, TCP/IP, Ethernet", out.on_link() / out.payload);
        terms.push(product.rate(reserve));
    }
    let beats = held("heartbeats", load)
        .over("seconds between heartbeats", wire.heartbeat_s)
        .times("bytes on the link", wire::heartbeat_out(wire));
    terms.push(on_link(beats, gbps).held(reserve));
    terms
}

fn receiving(inputs: &Inputs, out: &Outgoing) -> Vec<Term> {
    let Inputs { load, wire, server, reserve, .. } = inputs;
    let Some(gbps) = server.link_gbps else { return Vec::new() };
    let mut terms = Vec::new();
    for source in published(load) {
        let bytes = bytes_published(&source, load, inputs);
        let acknowledged =
            Product { name: "acknowledgements".to_owned(), ..receivers(&source, load) }
                .times("bytes of TCP's acknowledgement", wire::acknowledged(out));
        terms.push(on_link(source.times("bytes on the link", bytes), gbps).rate(reserve));
        terms.push(on_link(acknowledged, gbps).rate(reserve));
    }
    let beats = held("answers to heartbeats", load)
        .over("seconds between heartbeats", wire.heartbeat_s)
        .times("bytes on the link", wire::heartbeat_in(wire));
    terms.push(on_link(beats, gbps).held(reserve));
    terms
}

fn bytes_published(source: &Product, load: &Load, inputs: &Inputs) -> f64 {
    match source.name.as_str() {
        "events of services" => wire::ingested(load, &inputs.wire),
        _ => wire::incoming(load, &inputs.wire),
    }
}

fn on_link(product: Product, gbps: f64) -> Product {
    let bits = product.times("bits in a byte", 8.0);
    bits.over("bits of a server's link in a second", gbps * 1e9)
}

fn traffic(inputs: &Inputs, core: &Core) -> Traffic {
    let Inputs { load, wire, reserve, .. } = inputs;
    let out = &core.out;
    let connections = load.connections();
    let sources = published(load);
    let in_per_s: f64 = sources.iter().map(|source| source.ratio).sum();
    let out_per_s: f64 = sources.iter().map(|source| receivers(source, load).ratio).sum();
    let heartbeats_per_s = connections / wire.heartbeat_s;
    let beat_bits = heartbeats_per_s * wire::heartbeat_out(wire) * 8.0;
    let message_bits = out_per_s * out.on_link() * 8.0;
    let taken: f64 =
        sources.iter().map(|source| source.ratio * bytes_published(source, load, inputs)).sum();
    let answered = out_per_s * wire::acknowledged(out);
    let beaten = heartbeats_per_s * wire::heartbeat_in(wire);
    let billed = out_per_s * out.billed() + heartbeats_per_s * wire::heartbeat_billed(wire);
    Traffic {
        connections,
        rooms: load.rooms(),
        recipients: load.recipients(),
        in_per_s,
        out_per_s,
        heartbeats_per_s,
        connects_per_s: load.users / (load.session_min * 60.0),
        cut_by_one_server: connections / core.servers as f64,
        batch: out.batch,
        message: out.parts(wire),
        message_bytes_on_link: out.on_link(),
        payload_bits_per_s: out_per_s * out.payload * 8.0,
        out_bits_per_s: message_bits + beat_bits,
        out_bits_per_s_peak: message_bits * reserve.peak + beat_bits,
        in_bits_per_s: (taken + answered + beaten) * 8.0,
        payload_bytes_month: out_per_s * out.payload * MONTH_S,
        billed_bytes_month: billed * MONTH_S,
    }
}

pub(super) fn memory(inputs: &Inputs, core: &Core) -> Memory {
    let Inputs { load, wire, server, .. } = inputs;
    let bytes = server.bytes;
    let connections = load.connections();
    let tls = if wire.tls { bytes.tls } else { 0.0 };
    let user_bytes = connections * (bytes.user + tls + further_rooms(inputs) * bytes.channel);
    let kernel_bytes = connections * bytes.kernel;
    let base_bytes = core.servers as f64 * bytes.base;
    let bytes_per_connection = (user_bytes + kernel_bytes + base_bytes) / connections;
    Memory { user_bytes, kernel_bytes, base_bytes, bytes_per_connection }
}

/// What 30 days cost; nothing is said without any price.
fn cost(inputs: &Inputs, core: &Core, traffic: &Traffic) -> Option<Cost> {
    let (servers, transfer, total) = month_cost(inputs, core, traffic)?;
    let messages = traffic.out_per_s * MONTH_S;
    Some(Cost {
        servers,
        transfer,
        total,
        per_connection: total / traffic.connections,
        per_million_messages: if messages > 0.0 { total / messages * 1e6 } else { 0.0 },
        elastic: elastic(inputs, core),
    })
}

/// Servers, transfer and both.
fn month_cost(inputs: &Inputs, core: &Core, traffic: &Traffic) -> Option<(f64, f64, f64)> {
    let prices = &inputs.prices;
    if prices.server_hour.is_none() && prices.per_gb.is_none() {
        return None;
    }
    let servers = core.servers as f64 * prices.server_hour.unwrap_or(0.0) * MONTH_HOURS;
    let transfer = traffic.billed_bytes_month / 1e9 * prices.per_gb.unwrap_or(0.0);
    Some((servers, transfer, servers + transfer))
}

/// The total for other inputs.
pub(super) fn total_cost(inputs: &Inputs, core: &Core) -> Option<f64> {
    month_cost(inputs, core, &traffic(inputs, core)).map(|(_, _, total)| total)
}

/// Everything sent at the peak, for other inputs.
pub(super) fn peak_bits(inputs: &Inputs, core: &Core) -> f64 {
    traffic(inputs, core).out_bits_per_s_peak
}

/// The day's average stays; what the peak takes, the rest of the day lacks.
fn elastic(inputs: &Inputs, core_at_peak: &Core) -> Option<Elastic> {
    let hours = inputs.reserve.peak_hours?;
    let price = inputs.prices.server_hour?;
    let rest = (24.0 - inputs.reserve.peak * hours) / (24.0 - hours);
    let mut quiet = inputs.clone();
    quiet.reserve.peak = rest;
    let servers_rest = core(&quiet).servers;
    let day = core_at_peak.servers as f64 * hours + servers_rest as f64 * (24.0 - hours);
    Some(Elastic { rest, servers_rest, servers: day * 30.0 * price })
}

/// Whole numbers are exact up to nine times that.
pub(super) const SERVERS_MAX: f64 = 1e15;
/// The dimension of what the server's own budget admits.
pub(super) const BUDGET: &str = "memory budget";
/// 30 days.
const MONTH_S: f64 = 2_592_000.0;
const MONTH_HOURS: f64 = 720.0;
