//! Fossil deltas with the JavaScript package that SDKs carry, both ways.

use crate::rig::child::{client, run};
use proto::delta::{Differ, apply};
use serde_json::{Value, json};

const MAX: u32 = 1 << 20;

/// Documents one after the other, as a channel has them.
fn documents() -> Vec<String> {
    let document = |n: u64| {
        // One level in eight changes with each document.
        let levels: Vec<Value> =
            (0..8).map(|at| json!([1000 + at, (n + at) / 8 * 37 % 900 + at])).collect();
        json!({
            "instrument": "größtes Papier 日本 🙂",
            "bid": 1.5 + n as f64 / 100.0,
            "levels": levels,
            "note": if n.is_multiple_of(5) { "außer Betrieb" } else { "im Betrieb" },
            "since": "2026-01-01T00:00:00Z",
            "tags": ["öffentlich", "übertragen", format!("n{n}")],
        })
        .to_string()
    };
    let mut documents: Vec<String> = (0..60).map(document).collect();
    documents.extend(["", "a", "ä", "日本語日本語日本語日本語"].map(str::to_owned));
    documents
}

#[test]
fn deltas_are_understood_in_both_directions() {
    let documents = documents();
    let mut differ = Differ::new(MAX);
    let (mut deltas, mut target_bytes, mut delta_bytes) = (0, 0, 0);
    let pairs: Vec<Value> = documents
        .windows(2)
        .map(|pair| {
            let delta = differ.create_text(&pair[0], &pair[1]);
            if let Some(delta) = delta {
                deltas += 1;
                target_bytes += pair[1].len();
                delta_bytes += delta.len();
            }
            json!([pair[0], pair[1], delta])
        })
        .collect();
    assert!(deltas >= 59, "{deltas} deltas");
    assert!(delta_bytes * 4 < target_bytes, "{delta_bytes} of {target_bytes} bytes");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pairs.json");
    std::fs::write(&file, Value::from(pairs).to_string()).expect("written");
    let theirs: Vec<String> =
        serde_json::from_str(&run(client("delta.mjs").arg(&file))).expect("JSON");
    assert_eq!(theirs.len(), documents.len() - 1);
    for (pair, hex) in documents.windows(2).zip(theirs) {
        let delta = crate::ws::unhex(&hex);
        assert_eq!(
            apply(pair[0].as_bytes(), &delta, MAX).as_deref(),
            Ok(pair[1].as_bytes()),
            "{hex}"
        );
    }
}
