//! What making messages shorter costs: `cargo run -p proto --release --example shrink_speed`.
//!
//! Prints nanoseconds and bytes per message, the best of five measurements, for consecutive JSON
//! documents of a feed: compressed and expanded one by one, and as deltas from the one before.

use proto::delta::{Differ, apply};
use proto::ws::deflate::{Deflater, Inflater, Window};
use std::hint::black_box;
use std::time::Instant;

const DOCUMENTS: usize = 200;
const MAX: u32 = 1 << 20;

fn main() {
    for bytes in [150, 500, 2_000, 16_000] {
        let documents: Vec<String> = (0..DOCUMENTS).map(|n| document(n, bytes)).collect();
        let total: usize = documents.iter().map(String::len).sum();
        println!("documents of {} bytes", total / DOCUMENTS);
        for window in Window::ALL {
            compress(&documents, window, total);
        }
        expand(&documents);
        delta(&documents, total);
    }
}

fn compress(documents: &[String], window: Window, total: usize) {
    let mut deflater = Deflater::default();
    let mut made = 0;
    let per = best(|| {
        made = 0;
        for document in documents {
            let compressed = deflater.compress(window, document.as_bytes());
            made += black_box(compressed).map_or(document.len(), <[u8]>::len);
        }
    });
    let share = made * 100 / total;
    let rate = 1e9 / per;
    println!("  compress, {:2} bits: {per:8.0} ns, {share} % ({rate:.0}/s)", window.bits());
}

fn expand(documents: &[String]) {
    let mut deflater = Deflater::default();
    let compressed: Vec<Vec<u8>> = documents
        .iter()
        .filter_map(|d| deflater.compress(Window::Full, d.as_bytes()).map(<[u8]>::to_vec))
        .collect();
    let mut inflater = Inflater::default();
    let mut message = Vec::new();
    let per = best(|| {
        for compressed in &compressed {
            message.clear();
            message.extend_from_slice(compressed);
            inflater.inflate(&mut message, MAX).expect("what was compressed expands");
            black_box(&message);
        }
    });
    println!("  expand:            {per:8.0} ns");
}

fn delta(documents: &[String], total: usize) {
    let mut differ = Differ::new(MAX);
    let mut made = 0;
    let per = best(|| {
        made = documents[0].len();
        for pair in documents.windows(2) {
            let delta = differ.create_text(&pair[0], &pair[1]);
            made += black_box(delta).map_or(pair[1].len(), str::len);
        }
    });
    let deltas: Vec<Option<String>> = documents
        .windows(2)
        .map(|pair| differ.create_text(&pair[0], &pair[1]).map(str::to_owned))
        .collect();
    let back = best(|| {
        for (base, delta) in documents.iter().zip(&deltas) {
            if let Some(delta) = delta {
                black_box(apply(base.as_bytes(), delta.as_bytes(), MAX)).expect("it applies");
            }
        }
    });
    println!("  delta:             {per:8.0} ns, {} %; apply {back:.0} ns", made * 100 / total);
}

/// Nanoseconds per document, the best of five.
fn best(mut run: impl FnMut()) -> f64 {
    let one = || {
        let start = Instant::now();
        run();
        start.elapsed().as_nanos() as f64 / DOCUMENTS as f64
    };
    std::iter::repeat_with(one).take(5).fold(f64::MAX, f64::min)
}

/// The state of an instrument: most of it stays from one to the next.
fn document(n: usize, bytes: usize) -> String {
    let mut out = format!(
        "{{\"instrument\":\"EURUSD\",\"venue\":\"primary\",\"bid\":1.{:04},\"ask\":1.{:04},\
         \"time\":\"2026-01-01T00:{:02}:{:02}.123Z\",\"levels\":[",
        1000 + n * 7 % 90,
        1003 + n * 7 % 90,
        n / 60,
        n % 60
    );
    let mut level = 0;
    while out.len() + 40 < bytes {
        // One level in eight changes with each document.
        let size = (level * 7_919 + (n + level) / 8 * 104_729) % 9_000;
        out.push_str(&format!("{{\"price\":1.{:04},\"size\":{size}}},", 1000 + level));
        level += 1;
    }
    out.truncate(out.trim_end_matches(',').len());
    out.push_str("]}");
    out
}
