//! A plan as text for a terminal, 100 columns wide at most.

use super::number::{bits, bytes, fixed, money, plain};
use super::plan::{Dimension, Op, Plan, Term};
use std::fmt::Write;

/// Only what a pod holds.
pub fn pod_text(plan: &Plan) -> String {
    let mut out = String::new();
    pod(plan, &mut out);
    out.trim_start().to_owned()
}

/// The whole of it.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    head(plan, &mut out);
    dimensions(plan, &mut out);
    products(plan, &mut out);
    traffic(plan, &mut out);
    pod(plan, &mut out);
    cost(plan, &mut out);
    effects(plan, &mut out);
    growth(plan, &mut out);
    if !plan.notes.is_empty() {
        out += "\nNotes\n";
        for note in &plan.notes {
            wrapped(&mut out, "  - ", note);
        }
    }
    out
}

fn pod(plan: &Plan, out: &mut String) {
    let Some(pod) = &plan.pod else { return };
    let _ = writeln!(out, "\nA pod of {}", bytes(pod.memory_bytes));
    let text = format!(
        "{} connections fit: ({} - {} for the server) / ({} process + {} kernel + {} TLS) / {} \
         headroom",
        plain(pod.connections as f64),
        bytes(pod.memory_bytes),
        bytes(pod.base_bytes),
        bytes(pod.user_bytes),
        bytes(pod.kernel_bytes),
        bytes(pod.tls_bytes),
        plain(pod.headroom)
    );
    wrapped(out, "  ", &text);
    if let Some(allowed) = pod.allowed {
        wrapped(out, "  ", &allowed_text(allowed));
    }
}

/// What the server's own budget says.
pub(super) fn allowed_text(allowed: u64) -> String {
    let takes = match allowed {
        0 => "does not start".to_owned(),
        some => format!("takes {}", plain(some as f64)),
    };
    format!(
        "With default limits `shardcast serve` {takes} there: most of its memory is for outboxes, \
         histories and the like; `shardcast config --limits` shows for what, and lower limits give \
         more connections."
    )
}

fn head(plan: &Plan, out: &mut String) {
    let noun = if plan.servers == 1 { "server" } else { "servers" };
    let spare = if plan.spare > 0 { ", one of them spare" } else { "" };
    let _ = writeln!(
        out,
        "{} {noun}{spare}; the limit is {} (server: {})",
        plain(plan.servers as f64),
        plan.limiting,
        plan.inputs.server.name
    );
}

fn dimensions(plan: &Plan, out: &mut String) {
    let reserve = &plan.inputs.reserve;
    let headroom = format!("+{} %", plain(reserve.headroom_percent));
    let peak = format!("peak x{}", plain(reserve.peak));
    let _ = writeln!(
        out,
        "\n{:<16}{:>12}{:>12}{:>12}{:>10}{:>14}",
        "servers' worth", "average", peak, headroom, "servers", "full at peak"
    );
    for it in &plan.dimensions {
        let mark = if it.name == plan.limiting { "  <- limit" } else { "" };
        let _ = writeln!(
            out,
            "{:<16}{:>12}{:>12}{:>12}{:>10}{:>12} %{mark}",
            it.name,
            fixed(it.average, 3),
            fixed(it.peak, 3),
            fixed(it.ratio, 3),
            plain(it.servers as f64),
            fixed(it.used_at_peak * 100.0, 0)
        );
    }
}

fn products(plan: &Plan, out: &mut String) {
    out.push_str("\nHow each comes about\n");
    for dimension in &plan.dimensions {
        for term in &dimension.terms {
            wrapped(out, &format!("  {}: ", title(dimension, term)), &product(term));
        }
    }
}

/// The dimension, and the term where there are several.
pub(super) fn title(dimension: &Dimension, term: &Term) -> String {
    match dimension.terms.len() {
        1 => dimension.name.clone(),
        _ => format!("{}, {}", dimension.name, term.name),
    }
}

/// A product written out.
pub(super) fn product(term: &Term) -> String {
    let mut text = String::new();
    for (index, factor) in term.factors.iter().enumerate() {
        let op = match (index, factor.op) {
            (0, Op::Times) => "",
            (_, Op::Times) => " x ",
            (_, Op::Over) => " / ",
        };
        let _ = write!(text, "{op}{} {}", plain(factor.value), factor.name);
    }
    text + " = " + &fixed(term.ratio, 3)
}

fn traffic(plan: &Plan, out: &mut String) {
    let (it, memory) = (&plan.traffic, &plan.memory);
    let parts = it.message.iter().map(|part| format!("{} {}", plain(part.bytes), part.name));
    let rows = [
        (
            "Load",
            format!(
                "{} connections in {} rooms; {} messages a second in, {} out to {} receivers each",
                plain(it.connections),
                plain(it.rooms),
                fixed(it.in_per_s, 0),
                fixed(it.out_per_s, 0),
                plain(it.recipients)
            ),
        ),
        (
            "Message",
            format!(
                "{} bytes on the link: {}",
                plain(it.message_bytes_on_link),
                parts.collect::<Vec<_>>().join(", ")
            ),
        ),
        (
            "Bandwidth",
            format!(
                "{} out on average ({} of it payload), {} at the peak; {} in",
                bits(it.out_bits_per_s),
                bits(it.payload_bits_per_s),
                bits(it.out_bits_per_s_peak),
                bits(it.in_bits_per_s)
            ),
        ),
        (
            "Besides",
            format!(
                "{} heartbeats and {} connects a second; a server that fails cuts {} clients",
                fixed(it.heartbeats_per_s, 0),
                fixed(it.connects_per_s, 0),
                fixed(it.cut_by_one_server, 0)
            ),
        ),
        (
            "Memory",
            format!(
                "{} of the processes and {} of the kernel for connections, {} for {} idle servers: \
                 {} bytes a connection",
                bytes(memory.user_bytes),
                bytes(memory.kernel_bytes),
                bytes(memory.base_bytes),
                plain(plan.servers as f64),
                fixed(memory.bytes_per_connection, 0)
            ),
        ),
    ];
    out.push('\n');
    for (name, text) in rows {
        wrapped(out, &format!("{name:<11}"), &text);
    }
}

fn cost(plan: &Plan, out: &mut String) {
    let Some(cost) = &plan.cost else { return };
    let amount = |value: f64| money(&plan.inputs.prices.currency, value);
    let _ = writeln!(
        out,
        "\nCost in 30 days\n  {} = {} servers + {} transfer ({})",
        amount(cost.total),
        amount(cost.servers),
        amount(cost.transfer),
        bytes(plan.traffic.billed_bytes_month)
    );
    let _ = writeln!(
        out,
        "  {} a connection, {} a million messages delivered",
        amount(cost.per_connection),
        amount(cost.per_million_messages)
    );
    if let Some(elastic) = &cost.elastic {
        let _ = writeln!(
            out,
            "  {} servers outside of the peak, at {} of the average: {} instead of {}",
            elastic.servers_rest,
            plain(elastic.rest),
            amount(elastic.servers),
            amount(cost.servers)
        );
    }
    for it in &plan.managed {
        let times = it.times_ours.map(|times| format!(", {} times ours", plain(times)));
        let text = format!(
            "{}{}: {} for messages, {} for connections, {} for bytes, {} base",
            amount(it.total),
            times.unwrap_or_default(),
            amount(it.messages),
            amount(it.connections),
            amount(it.transfer),
            amount(it.base)
        );
        wrapped(out, &format!("  {}: ", it.name), &text);
    }
    if !plan.discounts.is_empty() {
        out.push_str("  As others report, not computed here:\n");
    }
    for it in &plan.discounts {
        let _ = writeln!(
            out,
            "    {}: {} to {} % of {}, {} to {}",
            it.name,
            plain(it.percent_low),
            plain(it.percent_high),
            it.of,
            amount(it.saves_low),
            amount(it.saves_high)
        );
    }
}

fn effects(plan: &Plan, out: &mut String) {
    let _ = writeln!(
        out,
        "\n{:<42}{:>9}{:>16}{:>14}{:>14}",
        "One change alone", "servers", "out at peak", "memory", "30 days"
    );
    for it in &plan.effects {
        let cost = it.cost.map(|cost| money(&plan.inputs.prices.currency, cost));
        let _ = writeln!(
            out,
            "{:<42}{:>9}{:>16}{:>14}{:>14}",
            it.name,
            plain(it.servers as f64),
            bits(it.out_bits_per_s_peak),
            bytes(it.memory_bytes),
            cost.unwrap_or_else(|| "-".to_owned())
        );
    }
}

fn growth(plan: &Plan, out: &mut String) {
    let _ = writeln!(out, "\n{:>16}{:>10}  {:<16}{:>14}", "users", "servers", "limit", "30 days");
    for it in &plan.growth {
        let cost = it.cost.map(|cost| money(&plan.inputs.prices.currency, cost));
        let _ = writeln!(
            out,
            "{:>16}{:>10}  {:<16}{:>14}",
            plain(it.users),
            plain(it.servers as f64),
            it.limiting,
            cost.unwrap_or_else(|| "-".to_owned())
        );
    }
}

/// A line, and its continuation under its own beginning.
fn wrapped(out: &mut String, first: &str, text: &str) {
    let indent = if first.starts_with("  ") { 6 } else { first.len() };
    out.push_str(first);
    let mut column = first.chars().count();
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > COLUMNS {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

const COLUMNS: usize = 100;
