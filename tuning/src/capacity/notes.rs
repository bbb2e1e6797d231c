//! What a reader must know to judge a plan's figures.

use super::build::{BUDGET, Core};
use super::compare::rule_of_thumb;
use super::inputs::Inputs;
use super::number::plain;
use super::plan::Traffic;
use super::wire;

pub(super) fn notes(inputs: &Inputs, core: &Core, traffic: &Traffic) -> Vec<String> {
    let Inputs { load, wire, reserve, .. } = inputs;
    let mut notes = Vec::new();
    if !reserve.n_minus_1 {
        let lost = plain(traffic.cut_by_one_server.ceil());
        notes.push(match core.servers {
            1 => format!("One server: when it fails, all {lost} clients wait for it. See --n-1."),
            _ => format!(
                "When a server fails, {lost} clients connect to the others at once, and what is \
                 left for bursts is used up. --n-1 plans one more."
            ),
        });
    }
    of_server(inputs, core, &mut notes);
    of_compression(inputs, &mut notes);
    if traffic.rooms < 1.0 {
        notes.push("There is less than one room; check --users-per-room.".into());
    }
    if wire.batch_ms > 0.0 {
        notes.push(format!(
            "Messages wait up to {} ms, and {} leave together on average.",
            plain(wire.batch_ms),
            plain(traffic.batch)
        ));
    }
    notes.push(format!(
        "Idle timeouts are reckoned with sessions of {} minutes in which the user is active for {} \
         (--session-min, --active-min).",
        plain(load.session_min),
        plain(load.active_min)
    ));
    notes.push(rule_of_thumb(traffic.connections));
    notes
}

/// What is known of a server, and what is not.
fn of_server(inputs: &Inputs, core: &Core, notes: &mut Vec<String>) {
    let Inputs { load, wire, server, .. } = inputs;
    if server.costs.is_none() && server.out_per_s.is_none() {
        notes.push("What a delivery costs is not known, so CPU is not in it: --measured.".into());
    }
    let measured =
        server.costs.and(server.costs_message_bytes).filter(|_| server.out_per_s.is_none());
    if let Some(bytes) = measured.filter(|bytes| load.message_bytes > bytes * 2.0) {
        notes.push(format!(
            "CPU of a delivery was measured with messages of {} bytes; yours of {} take more, which is \
             not in it.",
            plain(bytes),
            plain(load.message_bytes)
        ));
    }
    if wire.tls && server.costs.is_some() && server.tls_costs.is_none() {
        notes.push("CPU was measured without TLS, and the load has TLS: it will be more.".into());
    }
    if core.limiting == BUDGET {
        notes.push(
            "With default limits a server keeps most of its memory for outboxes, histories and the \
             like: `shardcast config --limits` shows for what. Lower limits admit more connections."
                .into(),
        );
    }
}

fn of_compression(inputs: &Inputs, notes: &mut Vec<String>) {
    let Inputs { load, wire, .. } = inputs;
    if wire.deflate < 1.0 && !wire::deflates(wire) {
        notes.push("SSE is sent as it is: --deflate changes nothing there.".into());
    } else if wire.deflate < 1.0 && load.message_bytes * wire.delta < wire.deflate_bytes_min {
        notes.push(format!(
            "Messages of {} bytes are below limits.ws_deflate_bytes_min ({}) and are not compressed.",
            plain(load.message_bytes * wire.delta),
            plain(wire.deflate_bytes_min)
        ));
    } else if wire.deflate < 1.0 && wire.delta < 1.0 {
        notes.push(
            "A delta compresses far worse than a message: in one published recording 0.39 became \
             0.89. Give --deflate as measured on deltas."
                .into(),
        );
    }
}
