//! What the client protocol costs: `cargo run -p proto --release --example centrifuge_speed`.
//!
//! Prints nanoseconds of CPU per command read and per push written, in both encodings, the best of
//! five measurements. A push is written once per event and shard, a command is read once.

use proto::centrifuge::{
    Command, Commands, Data, Encoding, Limits, Publication, Push, PushBody, Request,
    SubscribeRequest, write_command, write_push,
};
use std::borrow::Cow;
use std::hint::black_box;

const COMMANDS: usize = 100;

/// Runs per measurement: enough that the clock's step (a scheduler tick) is below 2 %.
const RUNS: usize = 4_000;

const PAYLOAD: &[u8] = br#"{"order_id":7919,"customer":"c-000001","items":[{"sku":"A-1001","quantity":2,"price":19.95},{"sku":"B-77","quantity":1,"price":5.5}],"total":45.4,"currency":"EUR","paid":true,"note":null,"place":"Berlin"}"#;

fn main() {
    for (name, encoding) in [("JSON", Encoding::Json), ("Protobuf", Encoding::Protobuf)] {
        let frame = frame(encoding);
        let bytes = frame.len() / COMMANDS;
        report(&format!("{name}: read a subscribe of {bytes} bytes"), COMMANDS, || {
            for command in Commands::new(encoding, &frame, Limits::DEFAULT) {
                drop(black_box(command.expect("a legal command")));
            }
        });
        let mut out = Vec::new();
        for (kind, data) in [("JSON", Data::Json(PAYLOAD)), ("text", text())] {
            let what = format!("{name}: write a push of {} bytes of {kind}", PAYLOAD.len());
            report(&what, COMMANDS, || {
                for offset in 0..COMMANDS as u64 {
                    out.clear();
                    let publication = Publication { data, offset, ..Publication::default() };
                    let body = Some(PushBody::Publication(publication));
                    let push = Push { channel: Cow::Borrowed("orders:eu"), body };
                    write_push(&mut out, encoding, black_box(&push));
                    black_box(&out);
                }
            });
        }
    }
}

/// The payload as a subscription with deltas gets it.
fn text() -> Data<'static> {
    Data::Json(PAYLOAD).as_text().expect("UTF-8")
}

fn frame(encoding: Encoding) -> Vec<u8> {
    let mut frame = Vec::new();
    for at in 0..COMMANDS {
        if at > 0 {
            frame.extend_from_slice(encoding.separator());
        }
        let request = SubscribeRequest {
            channel: Cow::Owned(format!("orders:{at:03}")),
            recover: true,
            epoch: Cow::Borrowed("000000ab00000001"),
            offset: 1_000 + at as u64,
            ..SubscribeRequest::default()
        };
        let command = Command { id: at as u32 + 1, request: Some(Request::Subscribe(request)) };
        write_command(&mut frame, encoding, &command);
    }
    frame
}

fn report(name: &str, items: usize, mut run: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = cpu_ns();
            for _ in 0..RUNS {
                run();
            }
            (cpu_ns() - start) / (RUNS * items) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:50} {best:8.1} ns");
}

/// CPU time of this thread: other work on the machine then matters less.
fn cpu_ns() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}
