//! Floods: clients and addresses that ask for more than they may are told so, and disturb nobody.

use crate::client::{CONNECT, connected, converse};
use crate::rig::http::get_from;
use crate::rig::ws::{Socket, frame};
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::Config;

const PATH: &str = "/connection/websocket";

fn refused(site: &Site, reason: &str, count: f64) {
    let series = format!("shardcast_floods_total{{reason=\"{reason}\"}}");
    until(&format!("{count} times {reason}"), || site.metric(&series) >= count);
}

/// What came, up to the end of the connection or the given number of replies.
fn replies(socket: &mut Socket, count: usize) -> Vec<Value> {
    (0..count).map(|_| serde_json::from_str(&socket.next_text()).expect("JSON")).collect()
}

/// So many subscribes, unknown commands or pings, in frames of 100.
fn commands(from: u32, count: u32, flood: &str) -> Vec<String> {
    let command = |id: u32| match flood {
        "subscriptions" => json!({"id": id, "subscribe": {"channel": format!("c{id}")}}),
        "nonsense" => json!({"id": id, "nonsense": {}}),
        _ => json!({"id": id, "ping": {}}),
    };
    let all: Vec<String> = (from..from + count).map(|id| command(id).to_string()).collect();
    all.chunks(100).map(|part| part.join("\n")).collect()
}

cells!(
    a_flood_of_commands_is_refused_then_ended_and_disturbs_nobody,
    the_clients_of_an_address_share_its_rates,
);

fn a_flood_of_commands_is_refused_then_ended_and_disturbs_nobody(cell: Cell) {
    // 5 a second: 25 at once, and 25 more are answered.
    let site = Site::with(cell, |config| config.limits.client_commands_per_s_max = 5);
    for flood in ["pings", "subscriptions", "nonsense"] {
        let mut quiet = converse(&site, &[(CONNECT, &[connected()])]);
        let mut loud = converse(&site, &[(CONNECT, &[connected()])]);
        for frame in commands(2, 40, flood) {
            loud.send_text(&frame);
        }
        let answered = replies(&mut loud, 40);
        let over = |reply: &&Value| reply["error"]["code"] == 111;
        let refused = answered.iter().filter(over).count();
        assert!((15..=16).contains(&refused), "{flood}: {refused} of 40");
        assert!(answered.iter().filter(over).all(|reply| reply["error"]["temporary"] == true));
        for frame in commands(42, 200, flood) {
            loud.send_text(&frame);
        }
        let (code, reason) = loud.closed();
        assert_eq!(
            (code, reason.as_str()),
            (3509, "too many errors: too many commands for too long")
        );
        quiet.send_text(r#"{"id":2,"ping":{}}"#);
        assert_eq!(quiet.next_text(), r#"{"id":2,"ping":{}}"#);
    }
    refused(&site, "commands", 3.0);
    refused(&site, "commands_ended", 3.0);
}

fn the_clients_of_an_address_share_its_rates(cell: Cell) {
    let own = |config: &mut Config| config.shared_addresses = Vec::new();
    let site = Site::with(cell, |config| {
        own(config);
        config.limits.address_commands_per_s_max = 10;
    });
    // 50 at once for all of them: nobody is ended, since it may be the others' doing.
    let mut own_socket = converse(&site, &[(CONNECT, &[connected()])]);
    let _other = converse(&site, &[(CONNECT, &[connected()])]);
    own_socket.send_text(&commands(2, 80, "pings")[0]);
    let over = |reply: &&Value| reply["error"]["code"] == 111;
    let refusals = replies(&mut own_socket, 80).iter().filter(over).count();
    assert!((30..=32).contains(&refusals), "{refusals} of 80");
    refused(&site, "address_commands", 30.0);
    // Who comes now is sent away to come back.
    until("a newcomer is sent away", || {
        own_socket.send_text(&commands(2, 20, "pings")[0]);
        let mut late = Socket::open(site.address(), PATH);
        late.send_text(CONNECT);
        let answer = late.next();
        replies(&mut own_socket, 20);
        if answer.opcode != 8 {
            return false;
        }
        assert_eq!(answer.close(), (3013, "too many requests".to_owned()));
        true
    });

    let site = Site::with(cell, |config| {
        own(config);
        config.limits.address_connects_per_s_max = 4;
    });
    // 20 at once, and some more while this takes its time.
    let answers: Vec<_> = (0..60).map(|_| get_from(site.address(), "/health/live")).collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((20..=50).contains(&served), "{served} of 60");
    for refusal in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refusal.status, refusal.code().as_str()), (429, "too_many_connects"));
        assert_eq!(refusal.header("retry-after"), "1");
    }
    refused(&site, "address_connects", 10.0);
    // The administrator is not a client.
    assert_eq!(site.admin_get("/metrics").status, 200);
}

#[test]
fn what_expands_counts_as_what_it_becomes() {
    // 20 a second and 100 at once: a frame of 1 MiB costs 64 more.
    let site = Site::with(Cell::URING_1, |config| config.limits.client_commands_per_s_max = 20);
    let mut socket = Socket::open(site.address(), PATH);
    socket.send_text(CONNECT);
    socket.next_text();
    let large = json!({"id": 2, "publish": {"channel": "a", "data": "x".repeat(1_000_000)}});
    let pings = &commands(3, 50, "pings")[0];
    let both = [frame(0x81, large.to_string().as_bytes()), frame(0x81, pings.as_bytes())].concat();
    socket.wire.send(both);
    let got = replies(&mut socket, 51);
    assert!(got.iter().any(|reply| reply["id"] == 2 && reply["publish"].is_object()));
    let over = got.iter().filter(|reply| reply["error"]["code"] == 111).count();
    assert!((1..=15).contains(&over), "{over} of 50");
}

#[test]
fn pings_and_pongs_faster_than_allowed_end_the_connection() {
    let site = Site::with(Cell::URING_2, |config| config.limits.ws_control_frames_per_s_max = 20);
    for (path, opcode) in [(PATH, 0x89), ("/v1/channels/a/ws", 0x89), ("/v1/channels/a/ws", 0x8a)] {
        let mut socket = Socket::open(site.address(), path);
        // Twice a second's worth and one: more than the count of any one second may be.
        (0..50).for_each(|_| socket.send(opcode, b"x"));
        let (code, reason) = socket.closed();
        assert_eq!((code, reason.as_str()), (1008, "too many control frames per second"), "{path}");
    }
    refused(&site, "control_frames", 3.0);
    let mut polite = Socket::open(site.address(), PATH);
    (0..5).for_each(|_| polite.send(0x89, b"y"));
    (0..5).for_each(|_| assert_eq!(polite.next().payload, b"y"));
}
