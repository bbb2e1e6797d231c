//! What checking a connection token costs, apart from any socket.
//!
//! `cargo run --release -p server --example connect_cost` prints, for each algorithm, connects per
//! second of this thread's CPU time: the whole way from the text of a token to an identity, over
//! five runs. HS256 is also measured with a token as backends make them, with a dozen claims.

use serde_json::Value;
use server::auth::{AlgorithmSet, Key, Rules, Verifier, parse_jwks};
use std::hint::black_box;

const RUNS: usize = 5;
const NOW_S: i64 = 1_800_000_000;

fn main() {
    let full = include_str!("../../bench/counts/src/auth/token.txt").trim_ascii();
    let key = Key::secret("counts-secret-0123456789abcdef-0123").expect("a long secret");
    report("HS256, a dozen claims", &verifier(vec![key]), full, 20_000);
    let made: Value =
        serde_json::from_str(include_str!("../src/auth/tests/openssl.json")).expect("JSON");
    for entry in made["tokens"].as_array().expect("a list") {
        let text = |at: usize| entry[at].as_str().expect("a text");
        let keys = match text(1) {
            "secret" => vec![Key::secret(made["secret"].as_str().expect("one")).expect("long")],
            _ => {
                parse_jwks(made["jwks"].to_string().as_bytes(), AlgorithmSet::ALL).expect("keys").0
            }
        };
        let connects = if text(0).starts_with("HS") { 20_000 } else { 2_000 };
        report(text(0), &verifier(keys), text(2), connects);
    }
}

fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier::new(Rules::default(), keys, None)
}

fn report(name: &str, verifier: &Verifier, token: &str, connects: u32) {
    let mut per_s: Vec<u64> = (0..RUNS)
        .map(|_| {
            let start = cpu_ns();
            for _ in 0..connects {
                let identity = verifier.connect(black_box(token), NOW_S);
                black_box(identity).expect("a good token");
            }
            u64::from(connects) * 1_000_000_000 / (cpu_ns() - start).max(1)
        })
        .collect();
    per_s.sort_unstable();
    println!(
        "{name}: {} connects per CPU second (from {} to {})",
        per_s[RUNS / 2],
        per_s[0],
        per_s[RUNS - 1]
    );
}

/// CPU time of this thread, so that a busy machine does not show in the figures.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
