//! What decoding costs: `cargo run -p proto --release --example decode_speed`.
//!
//! Prints nanoseconds per item for a batch of 1,000 lines of about 300 bytes, the best of five
//! measurements, beside the same work through `serde_json` with borrowed strings and `RawValue`.

use proto::decode::{Context, IdSource, NdjsonDecoder};
use proto::envelope::write_envelope;
use proto::event::{Draft, Unplaced};
use proto::position::{Epoch, Position};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::hint::black_box;
use std::ops::ControlFlow;

const LINES: usize = 1000;

/// Runs per measurement: enough that the clock's step (a scheduler tick) is below 2 %.
const RUNS: usize = 1000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn main() {
    let body = body(true);
    let bytes = body.len() / LINES;
    println!("{LINES} lines of {bytes} bytes");
    report("NdjsonDecoder, id given", || ndjson(&body, |unplaced| drop(black_box(unplaced))));
    let without_id = self::body(false);
    report("NdjsonDecoder, id made", || ndjson(&without_id, |unplaced| drop(black_box(unplaced))));
    report("serde_json, derived", || {
        for line in body.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let envelope: Envelope<'_> = serde_json::from_slice(line).expect("a legal line");
            let draft = Draft {
                channel: &envelope.channel,
                kind: &envelope.kind,
                id: &envelope.id,
                data: envelope.data.get().as_bytes(),
                ..Draft::default()
            };
            drop(black_box(draft.build().expect("a legal event")));
        }
    });
    let mut events = Vec::new();
    ndjson(&body, |unplaced| {
        events.push(unplaced.place(Position { epoch: Epoch(1), offset: 1 }, 1_700_000_000_000_000))
    });
    let mut out = Vec::new();
    report("write_envelope", || {
        for event in &events {
            out.clear();
            write_envelope(&mut out, event);
            black_box(&out);
        }
    });
}

fn body(id: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for n in 0..LINES {
        let id = if id {
            format!(r#""id":"01929c4e-{n:04}-7abc-9def-0123456789ab","#)
        } else {
            String::new()
        };
        let line = format!(
            r#"{{"channel":"orders:eu","type":"order",{id}"data":{{"order_id":{},"customer":"c-{n:06}","items":[{{"sku":"A-1001","quantity":2,"price":19.95}},{{"sku":"B-77","quantity":1,"price":5.5}}],"total":45.4,"currency":"EUR","paid":true,"note":null,"place":"Hauptstr. 1, Berlin"}}}}"#,
            n * 7919
        );
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    body
}

fn ndjson(body: &[u8], mut take: impl FnMut(Unplaced)) {
    let mut ids = IdSource::new([1, 2]);
    let mut context = Context {
        channel: None,
        traceparent: "",
        author: "",
        data_bytes_max: 1 << 20,
        ids: &mut ids,
    };
    let mut decoder = NdjsonDecoder::new();
    for part in body.chunks(16 * 1024) {
        decoder.feed(&mut context, part, |item| {
            take(item.result.expect("a legal line"));
            ControlFlow::Continue(())
        });
    }
}

fn report(name: &str, mut run: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = cpu_ns();
            for _ in 0..RUNS {
                run();
            }
            (cpu_ns() - start) / (RUNS * LINES) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:30} {best:8.1} ns per item");
}

/// CPU time of this thread: other work on the machine then matters less.
fn cpu_ns() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}
