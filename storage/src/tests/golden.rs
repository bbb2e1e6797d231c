//! Data directories written by every format version, read for ever. `examples/golden.rs` wrote
//! them; nothing here may be regenerated when a format changes: a new version adds a directory.

use super::*;
use crate::real_files::RealFiles;

/// Everything an event says, in one line, as `examples/golden.rs` wrote it.
fn line(event: &Event) -> String {
    format!(
        "{} {} {} {} {} {} {} {:?} {} {} {} {:?} {:?} {} {}",
        event.channel(),
        event.position(),
        event.id(),
        event.id_generated(),
        event.kind(),
        event.source(),
        event.key(),
        event.content_type(),
        event.traceparent(),
        event.attributes(),
        event.class().as_str(),
        event.data_kind(),
        String::from_utf8_lossy(event.data()),
        event.time_us(),
        event.accepted_us(),
    )
}

/// Opens a copy of a golden directory without the files named, and compares every event.
fn check(version: &str, without: &[&str], clean: bool) -> Recovered {
    let golden = format!("{}/tests/golden/{version}", env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let mut expected = String::new();
    for entry in std::fs::read_dir(&golden).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "expected.txt" {
            expected = std::fs::read_to_string(&path).unwrap();
        } else if !without.iter().any(|suffix| name.ends_with(suffix)) {
            std::fs::copy(&path, directory.path().join(name)).unwrap();
        }
    }
    let files = RealFiles::open(directory.path()).unwrap();
    let (mut spool, recovered, _) = reopen(&files, small());
    let read: Vec<String> = replayed(&spool).iter().map(line).collect();
    assert_eq!(recovered.clean, clean, "{version} without {without:?}");
    // And it goes on.
    let more = event("more", recovered.current_lineage, 1, 10);
    store(&mut spool, 1, vec![more.clone()], 0);
    assert_eq!(replayed(&spool).last(), Some(&more));
    let lines: Vec<String> = expected.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 96);
    assert_eq!(read, lines, "{version} without {without:?}");
    recovered
}

#[test]
fn version_1_is_read() {
    let recovered = check("v1", &[], true);
    assert_eq!(recovered.lineages.len(), 2);
    assert_eq!(recovered.incarnation_max, 3);
    let names: Vec<_> =
        recovered.channels.iter().map(|c| (c.name.as_str(), c.last_offset)).collect();
    assert_eq!(names, [("a", 96), ("orders:eu", 94)]);
    let tops: Vec<u64> = recovered.channels[0].tops.iter().map(|(_, top)| *top).collect();
    assert_eq!(tops, [64, 96]);
    // From the segments alone the same is found.
    let scanned = check("v1", &[".idx", "CHECKPOINT", "CLEAN", "META"], false);
    assert_eq!(scanned.channels, recovered.channels);
}
