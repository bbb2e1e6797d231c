//! Files put, found, refused and deleted, in a folder and in a bucket.

use super::{HOUR_US, SEVEN_US, file_of, plain};
use crate::parquet::client::{Put, Store, runtime};
use crate::parquet::config::{ParquetConfig, Place};
use crate::parquet::connect::Answer;
use crate::parquet::failure::Failure;
use crate::parquet::layout::{Hour, Range};
use bytes::Bytes;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn folder(root: &Path) -> Store {
    let location = root.to_str().unwrap().to_owned();
    let node = "n".to_owned();
    Store::open(&ParquetConfig { location, node, ..ParquetConfig::default() }).unwrap()
}

fn path(hour: i64, first_seq: u64) -> String {
    let range = Range { node: "n".into(), first_seq, end_seq: first_seq + 1 };
    range.path(Hour::of(SEVEN_US + hour * HOUR_US))
}

/// Runs the same against a folder and a bucket.
fn both(script: impl AsyncFn(&Store)) {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime().unwrap();
    for store in [folder(root.path()), Store::in_memory()] {
        runtime.block_on(script(&store));
    }
}

#[test]
fn a_file_put_twice_is_there_once_and_other_content_is_refused() {
    both(async |store| {
        let name = path(0, 1);
        let bytes = Bytes::from_static(b"whole");
        assert_eq!(store.put_whole(&name, bytes.clone()).await, Ok(Put::Written));
        assert_eq!(store.put_whole(&name, bytes.clone()).await, Ok(Put::Found));
        for other in ["WHOLE", "whole and more", "", "w"] {
            let refused = store.put_whole(&name, Bytes::from(other)).await;
            assert!(matches!(refused, Err(Failure::Fatal { .. })), "{other}: {refused:?}");
        }
        assert_eq!(store.read(&name).await, Ok(bytes));
    });
}

#[test]
fn the_same_events_in_other_bytes_count_as_the_same_file() {
    let events: Vec<_> = (0..9).map(|n| plain("a", n, n as i64, SEVEN_US)).collect();
    let file = file_of(&events);
    // What another version of the library might write: the same rows, a different first comment.
    let mut other = file.to_vec();
    let at = file.windows(9).rposition(|window| window == b"shardcast").unwrap();
    other[at..at + 9].copy_from_slice(b"SHARDCAST");
    super::reseal(&mut other);
    let fewer = file_of(&events[..8]);
    both(async |store| {
        assert_eq!(store.put_whole(&path(0, 1), file.clone()).await, Ok(Put::Written));
        let again = store.put_whole(&path(0, 1), other.clone().into()).await;
        assert_eq!(again, Ok(Put::Found));
        let refused = store.put_whole(&path(0, 1), fewer.clone()).await;
        assert!(matches!(refused, Err(Failure::Fatal { .. })), "{refused:?}");
    });
}

#[test]
fn a_reader_of_the_folder_never_sees_a_part_of_a_file() {
    let root = tempfile::tempdir().unwrap();
    let store = folder(root.path());
    runtime().unwrap().block_on(async {
        store.put_whole(&path(0, 1), Bytes::from_static(b"x")).await.unwrap();
    });
    let hour = root.path().join("day=2026-11-22/hour=07");
    let names = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let whole = "n-00000000000000000001-00000000000000000002.parquet";
    assert_eq!(names(&hour), [whole]);
    // What a crash leaves is no `.parquet`, and the next start removes it; never another's.
    let ours = "n-00000000000000000005-00000000000000000006.parquet#1";
    let others = "m-00000000000000000005-00000000000000000006.parquet#1";
    for name in [ours, others, "notes.txt#1"] {
        fs::write(hour.join(name), "part").unwrap();
    }
    drop(store);
    let _ = folder(root.path());
    assert_eq!(names(&hour), [others, whole, "notes.txt#1"]);
}

#[test]
fn retention_deletes_the_oldest_hours_first_and_only_our_files() {
    both(async |store| {
        for (hour, first_seq) in [(-30, 1), (-30, 2), (-3, 3), (-1, 4), (0, 5)] {
            store.put_whole(&path(hour, first_seq), Bytes::from_static(b"1234")).await.unwrap();
        }
        let theirs = "day=2026-11-21/hour=01/theirs.parquet";
        store.put_whole(theirs, Bytes::from_static(b"theirs")).await.unwrap();
        let days = ["day=2026-11-21", "day=2026-11-22"].map(str::to_owned);
        assert_eq!(store.days().await.unwrap(), days);

        // At 07:30 with two hours: 06 ended half an hour ago, 04 two and a half.
        let now_us = SEVEN_US + HOUR_US / 2;
        let expired = store.expire(now_us, 7_200, 1).await.unwrap();
        assert_eq!((expired.files, expired.bytes, expired.more), (1, 4, true));
        let expired = store.expire(now_us, 7_200, 1).await.unwrap();
        assert_eq!((expired.files, expired.more), (1, true));
        let expired = store.expire(now_us, 7_200, 10).await.unwrap();
        assert_eq!((expired.files, expired.more), (1, false));
        assert_eq!(store.expire(now_us, 7_200, 10).await.unwrap().files, 0);

        let hours = store.hours("day=2026-11-22").await.unwrap();
        assert_eq!(hours, [-1, 0].map(|hour| Hour::of(SEVEN_US + hour * HOUR_US)));
        assert_eq!(store.files(hours[0], 9).await.unwrap(), [(path(-1, 4), 4)]);
        assert_eq!(store.read(theirs).await, Ok(Bytes::from_static(b"theirs")));
    });
}

#[test]
fn an_age_beyond_all_time_deletes_nothing() {
    both(async |store| {
        store.put_whole(&path(0, 1), Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(store.expire(i64::MIN, u64::MAX, 9).await.unwrap().files, 0);
        assert_eq!(store.expire(i64::MAX, u64::MAX, 9).await.unwrap().files, 0);
    });
}

#[test]
fn what_cannot_work_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let location = file.to_str().unwrap().to_owned();
    let refused = Store::open(&ParquetConfig { location, ..ParquetConfig::default() });
    assert!(matches!(refused, Err(Failure::Fatal { remedy: "name a folder", .. })), "{refused:?}");

    let wrong = |config: ParquetConfig| config.validate().unwrap_err().key;
    let good = ParquetConfig { location: "s3://bucket/a/b/".into(), ..ParquetConfig::default() };
    assert_eq!(good.validate(), Ok(()));
    let place = Place::Bucket { bucket: "bucket".into(), prefix: "a/b".into() };
    assert_eq!(good.place(), Ok(place));
    assert_eq!(wrong(ParquetConfig { location: String::new(), ..good.clone() }), "location");
    assert_eq!(wrong(ParquetConfig { location: "gs://b".into(), ..good.clone() }), "location");
    assert_eq!(wrong(ParquetConfig { location: "s3://b/../c".into(), ..good.clone() }), "location");
    assert_eq!(wrong(ParquetConfig { node: "a/b".into(), ..good.clone() }), "node");
    assert_eq!(wrong(ParquetConfig { node: "_a".into(), ..good.clone() }), "node");
    assert_eq!(wrong(ParquetConfig { endpoint: "http://x:9".into(), ..good.clone() }), "endpoint");
    assert_eq!(wrong(ParquetConfig { access_key: "k".into(), ..good.clone() }), "access_key");
    assert_eq!(wrong(ParquetConfig { file_bytes: 0, ..good.clone() }), "file_bytes");
    let secret = ParquetConfig { secret_key: "very secret".into(), ..good };
    assert!(!format!("{secret:?}").contains("very secret"));
}

#[test]
fn errors_of_a_bucket_are_sorted_by_what_is_done_next() {
    use object_store::Error;
    let path = || "day=2026-11-22/hour=07/x.parquet".to_owned();
    let generic = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
    let sort = |error: &Error, status: u16| {
        let retry_after = (status == 503).then_some(Duration::from_secs(7));
        match Failure::of("s3://b", error, Some(Answer { status, retry_after })) {
            Failure::Retry { after, .. } => format!("retry {after:?}"),
            Failure::Fatal { remedy, .. } => remedy.to_owned(),
        }
    };
    assert_eq!(sort(&generic("SlowDown"), 503), "retry Some(7s)");
    assert_eq!(sort(&generic("client error (Connect)"), 0), "retry None");
    assert_eq!(sort(&generic("InternalError"), 500), "retry None");
    assert_eq!(sort(&generic("<Code>AuthorizationHeaderMalformed"), 400), "correct `region`");
    assert_eq!(sort(&generic("PermanentRedirect"), 301), "correct `region` or `endpoint`");
    assert!(sort(&generic("no such header"), 501).contains("If-None-Match"));
    let denied = Error::PermissionDenied { path: path(), source: "AccessDenied".into() };
    assert!(sort(&denied, 403).contains("access key"));
    let missing = Error::NotFound { path: path(), source: "NoSuchBucket".into() };
    assert!(sort(&missing, 404).contains("bucket"));
    let long = generic(&"é\n".repeat(5_000));
    let Failure::Retry { text, .. } = Failure::of("s3://b", &long, None) else { panic!("fatal") };
    assert!(text.len() <= 600 && !text.contains('\n'));
}

#[test]
fn a_store_that_nobody_answers_for_is_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = ParquetConfig {
        location: "s3://bucket".into(),
        endpoint: format!("http://{address}"),
        access_key: "test".into(),
        secret_key: "test".into(),
        allow_http: true,
        request_timeout: Duration::from_millis(300),
        ..ParquetConfig::default()
    };
    let store = Store::open(&config).unwrap();
    let runtime = runtime().unwrap();
    let silent = runtime.block_on(store.put_whole(&path(0, 1), Bytes::from_static(b"x")));
    assert!(matches!(&silent, Err(Failure::Retry { text, .. }) if text.contains("no answer")));
    drop(taken);
    let refused = runtime.block_on(store.put_whole(&path(0, 1), Bytes::from_static(b"x")));
    let Err(Failure::Retry { text, .. }) = refused else { panic!("{refused:?}") };
    assert!(text.contains("refused"), "{text}");
}
